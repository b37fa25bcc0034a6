"""Parties that we call and do not run: none of them holds us up, fills our memory, or sends us to somebody else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from tests.hostile import ELSEWHERE, FLOOD_BYTES, HTML, PACKED, Answer, Hostile, drip, drip_heads, flood

from federome.errors import Invalid, Unavailable
from federome.network import channels, tes
from federome.network.alerts import Message
from federome.network.fetching import DOCUMENT, fetch_document
from federome.network.sandbox_bundle import Program, load_program
from federome.standards import catalogues, mme_client
from federome.standards.beacon.hub import Listed

MESSAGE = Message("k" * 64, "FI", "anna", "case-7", "gene", "family", "h1", "ES", 0.001)
PATIENT: dict[str, Any] = {
    "id": "p",
    "contact": {"name": "A", "href": "mailto:a@clinic.example"},
    "features": [{"id": "HP:0001250"}],
}
LONG_S, SHORT_S = 60.0, 0.3
"""Patience where the size ends it, whatever the load of the machine; and where nothing else would."""


def issuer(url: str, http: httpx.Client, patience_s: float, _place: Path) -> None:
    fetch_document(url, http=http, bounds=replace(DOCUMENT, patience_s=patience_s))


def exchange(url: str, http: httpx.Client, patience_s: float, _place: Path) -> None:
    bounds = replace(mme_client.ANSWER, patience_s=patience_s)
    (told,) = mme_client.ask([mme_client.Peer("peer", url, "key")], PATIENT, http, bounds=bounds)
    if "could not be reached" in told.failed or "refused" in told.failed:
        raise Unavailable(told.failed)
    if told.failed:
        raise Invalid(told.failed)


def task_service(url: str, http: httpx.Client, patience_s: float, place: Path) -> None:
    image = f"images.test/federome@sha256:{'a' * 64}"
    profile = tes.Profile(url, image, str(place), no_egress=True, backend_parameters={"profile": "no-network"})
    runner = tes.TesRunner(profile, http, bounds=replace(tes.ANSWER, patience_s=patience_s))
    runner.run(program(place / "program"), {})


def program(place: Path) -> Program:
    place.mkdir()
    (place / "bundle.toml").write_text('name = "sent"\nversion = "1"\nrelease_class = "counts"\n')
    (place / "program.toml").write_text('entry = "code:run"\nreads = []\nreleases = ["n"]\n')
    (place / "code.py").write_text("def run(inputs):\n    return None\n")
    return load_program(place)


def catalogue(url: str, http: httpx.Client, patience_s: float, _place: Path) -> None:
    bounds = replace(catalogues.ANSWER, patience_s=patience_s)
    reader = catalogues.Reader([Listed("FI", "FI", url)], lambda: 0.0, http, bounds)
    reader.read()
    if reader.known.unread:
        raise Unavailable("not read.")


def webhook(url: str, http: httpx.Client, patience_s: float, _place: Path) -> None:
    channels.webhook(url, http, bounds=replace(channels.ANSWER, patience_s=patience_s))(MESSAGE)


Caller = Callable[[str, httpx.Client, float, Path], None]
CALLERS: tuple[Caller, ...] = (issuer, exchange, task_service, catalogue)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("answer", [drip, drip_heads, flood, PACKED, ELSEWHERE, HTML])
def test_whoever_answers_without_end_costs_a_moment_and_little_memory(
    hostile: Hostile, tmp_path: Path, answer: Answer, caller: Caller
) -> None:
    url, patience_s = hostile(answer), SHORT_S if answer in (drip, drip_heads) else LONG_S
    tracemalloc.start()
    try:
        with httpx.Client() as http, pytest.raises((Unavailable, Invalid)) as error:
            caller(url, http, patience_s, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < FLOOD_BYTES // 2
    finally:
        tracemalloc.stop()
    assert not [path for path in tmp_path.iterdir() if path.name != "program"]
    assert str(error.value)


@pytest.mark.parametrize("answer", [flood, PACKED])
def test_a_client_without_bounds_would_hold_it_all(hostile: Hostile, answer: Answer) -> None:
    assert len(httpx.get(hostile(answer), timeout=LONG_S).content) >= FLOOD_BYTES - 8192


@pytest.mark.parametrize("answer", [drip, flood, PACKED, HTML])
def test_what_a_webhook_says_beyond_its_status_is_not_read(hostile: Hostile, tmp_path: Path, answer: Answer) -> None:
    with httpx.Client() as http:
        webhook(hostile(answer), http, LONG_S, tmp_path)


@pytest.mark.parametrize(("answer", "patience_s"), [(drip_heads, SHORT_S), (ELSEWHERE, LONG_S)])
def test_a_webhook_that_never_says_its_status_is_tried_again(
    hostile: Hostile, tmp_path: Path, answer: Answer, patience_s: float
) -> None:
    with httpx.Client() as http, pytest.raises(Unavailable):
        webhook(hostile(answer), http, patience_s, tmp_path)
