"""Two checkers and whoever asked, at the hub's portal: what each sees of a result that waits, and what follows."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.portal_runs import carry, held_run
from tests.portals import KEYS, Portal, portal
from tests.unit.portal.test_node_pages import SCRIPT

from federome.db import engine
from federome.model.permit import PersonKey
from federome.model.registry import Person
from federome.network.output_queue import CHECKERS, Checkers, OutputQueue
from federome.portal.sessions import Sessions
from federome.trust.people import sign_vote


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Portal, OutputQueue, str]]:
    source, run = held_run(tmp_path_factory.mktemp("runs"), KEYS["alice"])

    def listed(folder: Path) -> None:
        carry(source, folder, KEYS["alice"].public)
        for name in ("olga", "oskar", "ivan", "ines"):
            key = PersonKey.of(KEYS[name].public.jwk())
            Checkers(folder / CHECKERS).appoint(Person(name, "institute", roles=("output-reviewer",), key=key))

    with portal(tmp_path_factory.mktemp("portal"), prepare=listed) as made:
        queue = OutputQueue(made.hub.coordinator, Checkers(made.folder / CHECKERS), made.clock)
        yield made, queue, run


def seen(there: Portal, who: str, place: str, status: int = 200) -> str:
    with there.http(who) as http:
        answer = http.get(place)
    assert answer.status_code == status, answer.text
    return re.sub(r"<[^>]*>", "", html.unescape(answer.text))


def contest(there: Portal, who: str, run: str, **fields: Any) -> int:
    session = Sessions(engine(f"sqlite:///{there.folder / 'portal.db'}"), there.clock).find(there.cookie(who))
    assert session is not None
    with there.http(who) as http:
        form = {"_csrf": session.csrf, "_once": "c", **fields}
        return http.post(f"/portal/checks/{run}/contest", data=form, headers={"Origin": there.url}).status_code


def test_from_waiting_over_a_contest_to_released(there: tuple[Portal, OutputQueue, str]) -> None:
    made, queue, run = there
    place = f"/portal/checks/{run}"
    files = str(queue.show(run, KEYS["olga"].public.thumbprint)["files_digest"])

    def vote(who: str, act: str, reasons: str = "") -> str:
        return str(queue.vote(sign_vote(run, files, act, reasons, KEYS[who]))["state"])  # type: ignore[arg-type]

    assert run in seen(made, "olga", "/portal/checks")
    page = seen(made, "olga", place)
    for words in (files, "frequencies", "chromosome", f"federome review approve {run} --hub {made.url}", "Your vote"):
        assert words in page
    with made.http("olga") as http:
        assert http.get(f"{place}/file.csv?name=frequencies").text.startswith("chromosome,")
        assert http.get(f"{place}/file.csv?name=x").status_code == 404
    # whoever asked sees that it waits, and no table
    page = seen(made, "alice", place)
    assert "for checkers alone" in page and "Your vote" not in page and "Contest the rejection" not in page
    with made.http("alice") as http:
        assert place in http.get(f"/portal/runs/{run}").text
    with made.http("alice") as http:
        assert http.get(f"{place}/file.csv?name=frequencies").status_code == 403
    # nobody else
    for who in ("anton", "carla"):
        assert seen(made, who, place, 404) == seen(made, who, "/portal/checks/none", 404).replace("none", run)
    seen(made, "alice", "/portal/checks", 403)
    # a comment, one for, one against
    vote("olga", "comment", f"What is in the last column? {SCRIPT}")
    with made.http("oskar") as http:
        assert "olga comments: " in http.get(place).text and "<script>alert" not in http.get(place).text
    vote("olga", "approve")
    assert contest(made, "alice", run, reasons="too early") == 403
    assert vote("oskar", "reject", "one cell is small") == "rejected"
    assert "oskar rejects: one cell is small" in seen(made, "alice", place)
    assert "Your vote" not in seen(made, "olga", place)
    assert contest(made, "alice", run, reasons=" ") == 400
    assert contest(made, "anton", run, reasons="not mine") == 404
    assert contest(made, "olga", run, reasons="not mine") == 403
    assert contest(made, "alice", run, reasons="it holds twelve people") == 303
    assert "alice contests: it holds twelve people" in seen(made, "ivan", place)
    # two who have not voted
    assert (vote("ivan", "approve"), vote("ines", "approve")) == ("contested", "released")
    assert "Complete" in seen(made, "alice", f"/portal/runs/{run}")
    assert "No result waits." in seen(made, "olga", "/portal/checks")
