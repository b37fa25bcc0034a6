"""The Matchmaker Exchange's 50 test patients and every error code of its API, asked of the real application."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import httpx2 as httpx

from federome.analysis.matching import Measure
from federome.bench.report import Row
from federome.standards import mme
from federome.standards.mme_server import Exchange, application

KEY = "bench"
KIND = mme.media_type("1.1")
GOOD: Mapping[str, str] = {"X-Auth-Token": KEY, "Content-Type": KIND, "Accept": KIND}
FAULTS: tuple[tuple[int, str, bytes, Mapping[str, str]], ...] = (
    (400, "POST", b"{", GOOD),
    (401, "POST", b"{}", {**GOOD, "X-Auth-Token": "another"}),
    (405, "GET", b"", GOOD),
    (406, "POST", b"{}", {**GOOD, "Accept": mme.media_type("9.0")}),
    (413, "POST", b" " * (3 << 20), GOOD),
    (415, "POST", b"{}", {**GOOD, "Content-Type": "text/plain"}),
    (422, "POST", b"{}", GOOD),
)
"""The answer that is due, and what earns it."""


def measure_mme(rule: Measure, patients: Path) -> list[Row]:
    """How many test patients find themselves first (or as well as the first), and how many faults get their code."""
    listed = json.loads(patients.read_text())
    keys = {hashlib.sha256(KEY.encode()).hexdigest(): "bench"}
    app = application(Exchange(rule, tuple(mme.read_entries(listed)), keys, lambda: 0.0))

    async def asked() -> tuple[int, int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://mme") as http:
            themselves = 0
            for patient in listed:
                answer = await http.post("/match", content=json.dumps({"patient": patient}).encode(), headers=GOOD)
                found = answer.json()["results"]
                best = [each["patient"]["id"] for each in found if each["score"] == found[0]["score"]]
                themselves += patient["id"] in best
            codes = [
                (await http.request(method, "/match", content=body, headers=headers)).status_code == due
                for due, method, body, headers in FAULTS
            ]
            return themselves, sum(codes)

    themselves, codes = asyncio.run(asked())
    return [
        Row("MME: test patients who find themselves", themselves, "", len(listed), themselves == len(listed)),
        Row("MME: faults answered with their code", codes, "", len(FAULTS), codes == len(FAULTS)),
    ]
