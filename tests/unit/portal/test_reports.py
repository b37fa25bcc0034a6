"""A report for one patient as a page of the own node: what the command found, for the clinician it was made for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.node_portals import CLINICIAN, COLLEAGUE, NodePortal, node_portal
from tests.unit.patient.test_report import _all, files  # noqa: F401 (a fixture)
from tests.unit.portal.test_node_pages import SCRIPT, seen
from typer.testing import CliRunner

from federome.cli import app
from federome.db import Schema, engine, migrate, write
from federome.errors import Invalid, Missing
from federome.network.patient_reports import KEPT_S, PatientReports
from federome.patient.report import INTENDED_USE
from federome.pgx.report import METHOD, OVERSIGHT, PURPOSE


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodePortal]:
    with node_portal(tmp_path_factory.mktemp("reports")) as made:
        yield made


@pytest.fixture(scope="module")
def told(files: dict[str, str]) -> dict[str, object]:  # noqa: F811
    found: dict[str, object] = json.loads(_all(files, "--json"))
    return found


def test_the_page_says_what_the_command_says_and_what_it_is_not(there: NodePortal, told: dict[str, object]) -> None:
    there.house.reports.put(CLINICIAN, "c 7", told, now=there.clock())
    assert "c 7" in seen(there, CLINICIAN, "/portal/reports") and "Reports" in seen(there, CLINICIAN, "/portal")
    page = seen(there, CLINICIAN, "/portal/reports/one?name=c 7")
    for words in (INTENDED_USE, PURPOSE, OVERSIGHT, METHOD, "Research output"):
        assert words in page
    for words in ("Coronary artery disease", "register, 2024", "run 7 over FR and FI", "SLCO1B1", "simvastatin"):
        assert words in page
    (risk,) = told["risks"]  # type: ignore[misc]
    for each in risk["standings"]:
        assert f"about {100 * each['share_above']:.0f} of 100 are expected above" in page and each["band"] in page
    genes = told["pharmacogenomics"]
    assert isinstance(genes, dict)
    assert all(gene in page for gene in (*genes["genes"], *genes["untested"]))


def test_nobody_else_sees_it_and_it_goes_after_ninety_days(there: NodePortal, told: dict[str, object]) -> None:
    there.house.reports.put(COLLEAGUE, "secret", told, now=there.clock())
    with there.http(CLINICIAN) as http:
        guessed, none = (http.get(f"/portal/reports/one?name={name}") for name in ("secret", "nobody"))
    assert guessed.status_code == 404 and guessed.text == none.text.replace("nobody", "secret")
    for who in ("grace", "maria", "celia"):
        with there.http(who) as http:
            assert [http.get(f"/portal/reports{end}").status_code for end in ("", "/one?name=secret")] == [403, 403]
    book, now = PatientReports(there.house.base), there.clock()
    assert [one.name for one in book.listed(COLLEAGUE, now=now + KEPT_S - 1)] == ["secret"]
    assert book.listed(COLLEAGUE, now=now + KEPT_S + 1) == []
    with pytest.raises(Missing):
        book.open(COLLEAGUE, "secret", now=now + KEPT_S + 1)
    book.put("somebody", "else", {}, now=now + KEPT_S + 1)
    with pytest.raises(Missing):  # and is gone from the disk
        book.remove(COLLEAGUE, "secret")


def test_who_opens_a_report_is_on_record_for_operator_and_patient(
    there: NodePortal,
    files: dict[str, str],  # noqa: F811
) -> None:
    keep = ("--node", str(there.folder), "--for", CLINICIAN, "--name", "c 9", "--person", "pa-0")
    _all(files, *keep, "--json")
    seen(there, CLINICIAN, "/portal/reports")  # a list is no opening
    assert there.house.reports.views("pa-0") == []
    with there.http(COLLEAGUE) as http:
        assert http.get("/portal/reports/one?name=c 9").status_code == 404
    assert there.house.reports.views("pa-0") == []
    seen(there, CLINICIAN, "/portal/reports/one?name=c 9")
    there.house.reports.remove(CLINICIAN, "c 9")  # what was seen stays on record
    (view,) = there.house.reports.views("pa-0")
    assert (view.clinician, view.name, view.at.timestamp()) == (CLINICIAN, "c 9", there.clock())
    operator = seen(there, "grace", "/portal/operate")
    assert CLINICIAN in operator and "c 9" in operator
    mine, other = (seen(there, who, "/portal/my-data") for who in ("maria", "pablo"))
    assert f"09:00 UTC: {CLINICIAN}" in mine and "c 9" not in mine  # the clinician's word for them is the clinician's
    assert "Reports about you" not in other
    told = json.loads(seen(there, "maria", "/portal/my-data.json"))["reports_opened"]
    assert [(one["by"], one["at"]) for one in told] == [(CLINICIAN, "2026-06-01T09:00:00+00:00")]


def test_reports_of_before_are_kept_without_a_person(tmp_path: Path) -> None:
    base = engine(f"sqlite:///{tmp_path / 'node.db'}")
    old = sa.MetaData()
    columns = [sa.Column(name, sa.Text, primary_key=True) for name in ("clinician", "name")]
    made = sa.Table("patient_report", old, *columns, sa.Column("document", sa.Text), sa.Column("at", sa.Float))
    migrate(base, Schema("patient reports", old))
    with write(base) as db:
        db.execute(made.insert().values(clinician="anna", name="c7", document='{"sample": "s"}', at=1.0))
    book = PatientReports(base)
    assert book.open("anna", "c7", now=2.0) == {"sample": "s"}
    assert [one.clinician for one in book.views()] == ["anna"]


def test_the_command_keeps_and_forgets(there: NodePortal, files: dict[str, str], tmp_path: Path) -> None:  # noqa: F811
    keep = ("--node", str(there.folder), "--for", CLINICIAN, "--name")
    assert json.loads(_all(files, *keep, "by command", "--json")) == {"kept": "by command", "for": CLINICIAN}
    assert there.house.reports.open(CLINICIAN, "by command", now=0.0)["sample"] == "Ludovic & Co"
    command = ["patient", "forget", *keep[:2], "--for", CLINICIAN, "--name", "by command"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert isinstance(CliRunner().invoke(app, command).exception, Missing)
    with pytest.raises(Invalid):
        _all(files, "--node", str(there.folder), "--for", CLINICIAN)
    with pytest.raises(Invalid):
        _all(files, "--node", str(tmp_path), "--for", CLINICIAN, "--name", "x")


def test_names_are_shown_as_words(there: NodePortal, told: dict[str, object]) -> None:
    there.house.reports.put(CLINICIAN, SCRIPT, told | {"warnings": [SCRIPT]}, now=there.clock())
    with there.http(CLINICIAN) as http:
        for place, params in (("/portal/reports", {}), ("/portal/reports/one", {"name": SCRIPT})):
            page = http.get(place, params=params)
            assert page.status_code == 200 and "<script>alert" not in page.text and "<img src=x" not in page.text
