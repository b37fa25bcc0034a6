"""Pages for policy makers: the figures are those of the commands, runs are one's own, and no number breaks a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.portals import KEYS, person

from federome.db import engine
from federome.economics.analysis import evaluate_model
from federome.economics.maturity import domains, read_assessment
from federome.economics.read import find_model, shipped
from federome.errors import Missing
from federome.model.registry import Identity, Institution
from federome.model.table import Table
from federome.network.access import Register
from federome.portal.app import create_app, own_faces
from federome.portal.assessments import Assessments
from federome.portal.charts import radar
from federome.portal.pages import policy
from federome.portal.sessions import Sessions
from federome.portal.site import SESSION_COOKIE, Site

URL = "https://hub.test"
EVERYBODY = {"sex": np.array(["all"]), "age_band": np.array(["all"]), "population": np.array(["all"])}


class Counted:
    """Runs of Alice's: two complete counts, one withheld, one of another method."""

    def listed(self, key: str) -> list[Mapping[str, Any]]:
        names = ("part", "whole", "few", "other") if key == KEYS["alice"].public.thumbprint else ()
        return [self.told(key, name) | {"run": name, "created": datetime(2026, 6, 1, tzinfo=UTC)} for name in names]

    def told(self, key: str, run: str) -> Mapping[str, Any]:
        if key != KEYS["alice"].public.thumbprint or run not in ("part", "whole", "few", "other"):
            raise Missing("there is no such run.")
        method = "gwas-linear" if run == "other" else "cohort-count"
        provenance = {"result": {"tables": {"counts": "sha256:00"}}}
        return {"algorithm": method, "state": "COMPLETE", "priced": False, "provenance": provenance}

    def table(self, key: str, run: str, name: str, node: str) -> Table:
        people = np.array([{"part": 30, "whole": 120, "few": 0}[run]])
        return Table({**EVERYBODY, "people": people}, {"people": people == 0})


@pytest.fixture(scope="module")
def site() -> Site:
    database = engine("sqlite://")
    register = Register((person("alice", "uni-a", "researcher"),), (Institution("uni-a", "DE", for_profit=False),))
    return Site("hub.test", URL, Sessions(database, lambda: 0.0), lambda: register, lambda: 0.0, lambda: "1")


@pytest.fixture(scope="module")
def http(site: Site) -> Iterator[TestClient]:
    saved = Assessments(site.sessions._engine)
    app = create_app(site, lambda site: (*own_faces(site), policy.pages(site, Counted(), saved)))  # type: ignore[arg-type]
    with TestClient(app, base_url=URL, follow_redirects=False, raise_server_exceptions=False) as made:
        yield made


def as_alice(http: TestClient, site: Site) -> tuple[dict[str, str], str]:
    token = site.sessions.begin(Identity("alice", ""))
    session = site.sessions.find(token)
    assert session is not None
    return {"Cookie": f"{SESSION_COOKIE}={token}"}, session.csrf


def sheet(answer: httpx.Response) -> dict[str, dict[str, str]]:
    top = answer.text.partition("\n\n")[0]
    return {row["strategy"]: row for row in csv.DictReader(io.StringIO(top))}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_model_is_a_page_and_says_what_the_command_says(http: TestClient, name: str) -> None:
    assert http.get(f"/portal/policy/models/{name}").status_code == 200
    told = sheet(http.get(f"/portal/policy/models/{name}.csv"))
    expected = evaluate_model(find_model(name), threshold=policy.DEFAULT_THRESHOLD)
    assert {row: float(told[row][next(iter(c for c in told[row] if c.startswith("cost_")))]) for row in told} == {
        each.strategy: each.cost for each in expected.compared
    }


def test_names_of_files_are_no_models(http: TestClient) -> None:
    for name in ("none", "..%2F..%2Fpyproject.toml", "pyproject.toml", "%2Fetc%2Fpasswd.toml"):
        assert http.get(f"/portal/policy/models/{name}").status_code == 404


def test_ones_own_numbers_and_runs_become_inputs(http: TestClient, site: Site) -> None:
    place = "/portal/policy/models/brca-cascade"
    usual = sheet(http.get(f"{place}.csv"))
    given = http.get(f"{place}.csv", params={"v.carriers": "0.25"})
    assert sheet(given) != usual
    assert "given on this page" in given.text
    cookie, _ = as_alice(http, site)
    counted = http.get(f"{place}.csv", params={"run.carriers": "part", "of.carriers": "whole"}, headers=cookie)
    assert sheet(counted) == sheet(given)
    assert "cohort-count: 30 (run part" in counted.text
    page = http.get(place, headers=cookie).text
    assert "part (2026-06-01)" in page
    assert "other (2026" not in page
    for run, of in (("few", "whole"), ("other", "whole"), ("part", "part"), ("nobody's", "whole")):
        answer = http.get(place, params={"run.carriers": run, "of.carriers": of}, headers=cookie)
        assert answer.status_code in (400, 404), run
    assert "withheld" in http.get(place, params={"run.carriers": "few", "of.carriers": "whole"}, headers=cookie).text
    assert http.get(place, params={"run.carriers": "part", "of.carriers": "whole"}).status_code == 400  # logged out


@pytest.mark.parametrize("text", ["2", "-0.1", "nan", "inf", "1e400", "x", "<b>", "9" * 5000])
def test_wrong_numbers_are_told_and_kept(http: TestClient, text: str) -> None:
    answer = http.get("/portal/policy/models/brca-cascade", params={"v.carriers": text})
    assert answer.status_code == 400
    assert "<b>" not in answer.text
    for name, value in (("threshold", "-1"), ("threshold", "1e12"), ("country", "XX")):
        assert http.get("/portal/policy/models/brca-cascade", params={name: value}).status_code == 400


def test_huge_costs_do_not_break_the_page(http: TestClient) -> None:
    for name, each in find_model("pgx-panel").parameters.items():
        if each.value is not None:
            answer = http.get("/portal/policy/models/pgx-panel", params={f"v.{name}": "1e300"})
            assert answer.status_code in (200, 400), name


def test_an_assessment_is_shown_saved_and_taken_home(http: TestClient, site: Site, tmp_path: Path) -> None:
    place, levels = "/portal/policy/maturity", {"l.strategy": "4", "l.legal_basis": "2"}
    form = {"country": "fi", "on": "2026-06-01"} | levels
    text = http.get(place, params=form).text
    assert "2 of 49 indicators assessed" in text
    assert "not assessed" in text
    file = tmp_path / "maturity.toml"
    file.write_text(http.get(f"{place}.toml", params=form).text)
    assert read_assessment(file).judgements["strategy"].level == 4
    assert http.post(place, data=form).status_code == 401
    cookie, csrf = as_alice(http, site)
    assert http.post(place, data=form, headers=cookie).status_code == 403  # no token
    for _ in range(2):  # a double click
        answer = http.post(place, data=form | {"_csrf": csrf}, headers=cookie)
        assert answer.status_code == 303
    mine = Assessments(site.sessions._engine).of(Identity("alice", ""))
    assert [(each.country, each.on, each.assessed) for each in mine] == [("FI", date(2026, 6, 1), 2)]
    assert Assessments(site.sessions._engine).of(Identity("mallory", "")) == []
    later = http.get(place, params=form | {"on": "2027-06-01", "l.strategy": "5"}, headers=cookie).text
    assert "FI 2026-06-01" in later  # beside the new one in the figure
    assert "FI 2027-06-01" in later


@pytest.mark.parametrize(
    "form",
    [{"country": "Finland"}, {"country": "FI", "on": "soon"}, {"country": "FI", "l.strategy": "6"},
     {"country": "FI", "l.<script>": "3"}, {"country": "FI", "l.nothing": "3"}],
)  # fmt: skip
def test_wrong_assessments_are_told(http: TestClient, form: dict[str, str]) -> None:
    answer = http.get("/portal/policy/maturity", params=form)
    assert answer.status_code == 400
    assert "<script>" not in answer.text.replace('<script src="/portal/static/live.js" defer></script>', "")


def test_an_unknown_level_is_a_gap_and_never_the_middle() -> None:
    axes = [each.title for each in domains()]
    known = [3.0, None, *[2.0] * 6]
    drawn = radar("t", axes, {"FI": known}, most=5, head="Domain", unknown="not assessed")
    assert drawn.rows[1] == (axes[1], "not assessed")
    assert str(drawn.svg).count("<circle") == 7
    path = str(drawn.svg).split('class="line l1 d1" d="')[1].split('"')[0]
    assert path.count("M") == 2  # begins anew after the gap
    assert "320.0 190.0" not in path
