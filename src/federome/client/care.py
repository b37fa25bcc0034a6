"""Sealed letters under a care contract: what a clinician's machine signs and hands to the hub, and what comes back.

The hub carries the letters and cannot read them; what is in them is made and read by ``network/match_asker.py``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import uuid4

import httpx2 as httpx

from federome.client.session import Session
from federome.client.wire import Wire, open_http, problem_of, read_document
from federome.errors import Damaged, Invalid, Refused, Unavailable
from federome.model.order import RunOrder
from federome.model.permit import AlgorithmRef, HealthcareContract, Purpose
from federome.trust.keys import PrivateKey, load_private_key
from federome.trust.people import sign_order
from federome.trust.signing import peek

WAIT_S = 25.0
AFTER = timedelta(seconds=60)


@dataclass(frozen=True)
class Returned:
    """What came back to a round of letters: sealed answers by node, and why others did not answer."""

    run: str
    answers: Mapping[str, str]
    absent: Mapping[str, str]


class Care:
    """A clinician's way to the hub under a healthcare-reuse contract. A context manager."""

    def __init__(
        self,
        wire: Wire,
        *,
        key: PrivateKey,
        person: str,
        contract: str,
        datasets: Mapping[str, Sequence[str]],
        method: AlgorithmRef,
        deadline_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._wire, self._key, self._person, self._clock = wire, key, person, clock
        self._token, self._says = contract, read_contract(contract)
        self._datasets, self._method, self._deadline_s = datasets, method, deadline_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()

    def send(self, nodes: Sequence[str], sealed: Callable[[str], Mapping[str, str]]) -> Returned:
        """Sign an order for each node, hand in its letter (``sealed`` makes them for a run), wait for the answers."""
        run = f"run-{uuid4().hex}"
        orders = self._orders(run, sorted(nodes))
        engine = {"permit": self._token, "orders": orders, "sealed": dict(sealed(run))}
        form = {
            "workflow_type": "FEDEROME",
            "workflow_type_version": "1.0",
            "workflow_url": f"federome:{self._method.name}@{self._method.version}",
            "workflow_params": "{}",
            "workflow_engine_parameters": json.dumps(engine),
        }
        self._wire.call("POST", "/runs", patience_s=self._deadline_s, form=form)
        self._follow(run)
        return self._returned(run)

    def _orders(self, run: str, nodes: Sequence[str]) -> dict[str, str]:
        issued = datetime.fromtimestamp(math.floor(self._clock()), UTC)
        deadline = issued + timedelta(seconds=math.ceil(self._deadline_s))
        return {
            node: sign_order(
                RunOrder(
                    person=self._person,
                    node=node,
                    jti=f"{run}.{node}",
                    issued=issued,
                    expires=deadline + AFTER,
                    run=run,
                    roster=tuple(nodes),
                    permit=self._says.id,
                    purpose=Purpose("care"),
                    datasets=tuple(self._datasets[node]),
                    algorithm=self._method,
                    quorum=1,
                    deadline=deadline,
                    allow_partial=True,
                ),
                self._key,
            )
            for node in nodes
        }

    def _follow(self, run: str) -> None:
        end = self._wire.monotonic() + self._deadline_s + 15
        after = ""
        while True:
            left = max(end - self._wire.monotonic(), 0.0)
            params = {"after": after, "wait": f"{min(WAIT_S, left):.3f}"}
            told = self._wire.document("GET", f"/runs/{quote(run, safe='')}/events", patience_s=left, params=params)
            after = str(told.get("next"))
            if told.get("state") not in ("RUNNING", "QUEUED"):
                return
            if left == 0:
                raise Unavailable("the letters have not been answered.", where=run)

    def _returned(self, run: str) -> Returned:
        log = self._wire.document("GET", f"/runs/{quote(run, safe='')}", patience_s=self._deadline_s)
        outputs = log.get("outputs")
        provenance = outputs.get("provenance") if isinstance(outputs, dict) else None
        if log.get("state") != "COMPLETE" or not isinstance(provenance, dict):
            raise Unavailable("the letters did not come back.", where=run, remedy="Ask again.")
        result, absent = provenance.get("result"), provenance.get("absent")
        answers = result.get("answers") if isinstance(result, dict) else None
        if not isinstance(answers, dict) or not isinstance(absent, dict):
            raise Damaged("the hub tells no answers.", where=run)
        why = {node: _why(told) for node, told in absent.items()}
        return Returned(run, {node: str(token) for node, token in answers.items()}, why)


def open_care(
    url: str,
    *,
    key: Path | PrivateKey,
    person: str,
    contract: Path | str,
    datasets: Mapping[str, Sequence[str]],
    method: AlgorithmRef,
    certificate: Path | None = None,
    session: Path | Session | None = None,
    deadline_s: float = 30.0,
    clock: Callable[[], float] = time.time,
    http: httpx.Client | None = None,
) -> Care:
    """A clinician's way to the hub at ``url``; ``datasets`` by node are what is asked there."""
    own = key if isinstance(key, PrivateKey) else load_private_key(key)
    logged_in = Session.load(session) if isinstance(session, Path) else session
    wire = Wire(http or open_http(url, certificate), key=own, clock=clock, owned=http is None, session=logged_in)
    token = contract.read_text("ascii") if isinstance(contract, Path) else contract
    care = Care(
        wire,
        key=own,
        person=person,
        contract=token.strip(),
        datasets=datasets,
        method=method,
        deadline_s=deadline_s,
        clock=clock,
    )
    tags = read_document(wire.call("GET", "/service-info", patience_s=10.0)).get("tags")
    wire.hub = str(tags.get("hub")) if isinstance(tags, dict) else ""
    return care


def read_contract(token: str) -> HealthcareContract:
    """What a contract says; the nodes verify it. ``Invalid`` if it is none."""
    try:
        return HealthcareContract.from_document(peek(token).payload.get("grant"), where="contract")
    except Refused as error:
        raise Invalid("this is no healthcare contract.", remedy="Give the file that the authority sent.") from error


def _why(told: object) -> str:
    if not isinstance(told, dict):
        return "no reason was given"
    error = problem_of(told)
    codes = ", ".join(error.codes) if isinstance(error, Refused) else ""
    return f"{error.message}{f' ({codes})' if codes else ''}"
