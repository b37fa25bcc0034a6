"""A hospital's folder to a catalogued dataset, stopped at every step, spoilt in every usual way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from federome.db import engine
from federome.demo.hospital import export_hospital
from federome.demo.synthetic import truth_path
from federome.errors import Invalid
from federome.model.cohort import Cohort, Diagnosis
from federome.model.verdict import Finding, SampleVerdict, Verdict
from federome.network.consents import ConsentBook
from federome.network.holdings import StoreHoldings
from federome.network.question import Use
from federome.network.records import DatasetRecord, read_records
from federome.onboard.course import STEPS, Course, Options
from federome.onboard.crosswalk import HEADER
from federome.onboard.mapping import to_toml
from federome.quality.evidence import judge
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter

TODAY = date(2026, 11, 26)
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
EVERYBODY = Cohort()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = export_hospital(tmp_path_factory.mktemp("made") / "hospital", people=120, variants=4_000, seed=3)
    lines = (folder / "genotypes.vcf").read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.startswith(("#", "21\t", "22\t"))]
    (folder / "genotypes.vcf").write_text("".join(kept))
    (folder / "callable.bed").unlink()
    return folder


@pytest.fixture(scope="module")
def whole(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> DatasetRecord | None:
    """What comes of the folder if nothing happens on the way."""
    return course(exported, tmp_path_factory.mktemp("whole") / "node").run()


@pytest.fixture
def hospital(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path / "hospital")
    return tmp_path / "hospital"


def accepting(writer: object, _folder: Path, _owners: object) -> Verdict:
    return Verdict("hospital-fi", "accept", people=120, by="test")


def course(folder: Path, node: Path, **options: object) -> Course:
    judge = options.pop("judge", accepting)
    given = {"fix": True, "accept_mapping": True, **options}
    node.mkdir(exist_ok=True)
    book = ConsentBook(engine(f"sqlite:///{node / 'node.db'}", durable=True), secret=b"s" * 32)
    return Course(folder, node, book, Options(today=TODAY, **given), NOW, judge=judge)  # type: ignore[arg-type]


def seen(node: Path, use: Use, dataset: str = "hospital-fi", *, cohort: Cohort = EVERYBODY) -> int:
    """How many people a question of this use would be about."""
    book = ConsentBook(engine(f"sqlite:///{node / 'node.db'}", durable=True), secret=b"s" * 32)
    holdings = StoreHoldings(Store.open(node / "data"), book.ledger, NOW.timestamp)
    return holdings.open(holdings.freeze([dataset], cohort, use)).view.people


def test_quality_control_is_what_judges(hospital: Path, tmp_path: Path) -> None:
    """The real judge on made-up people: nobody is refused, and a laboratory whose evidence lapsed is referred."""

    def judging(writer: BatchWriter, folder: Path, owners: Mapping[str, str]) -> Verdict:
        return judge(writer, folder, owners, today=TODAY).told()

    (hospital / "quality").mkdir()
    (hospital / "quality" / "laboratory.toml").write_text(
        'name = "Lab"\n[[certificates]]\nstandard = "ISO 15189"\nnumber = "1"\nbody = "B"\n'
        f"valid_from = 2020-01-01\nvalid_until = {TODAY - timedelta(days=1)}\n"
    )
    record = course(hospital, tmp_path / "node", judge=judging).run()
    assert record is not None
    assert record.quality == "refer"
    told = json.loads((tmp_path / "node" / "onboarding" / "hospital-fi" / "hospital" / "verdict.json").read_text())
    assert {each["metric"] for each in told["findings"] if each["decision"] != "accept"} == {"laboratory"}
    assert not [each for each in told["samples"] if each["decision"] != "accept"]


def test_a_folder_becomes_a_catalogued_dataset(hospital: Path, tmp_path: Path) -> None:
    made = course(hospital, tmp_path / "node")
    record = made.run()
    assert record is not None
    assert (record.identifier, record.quality, record.people) == ("GDI-FI-HOSP-001", "accept", 120)
    assert read_records(tmp_path / "node" / "records") == [record]
    release = Store.open(tmp_path / "node" / "data").release("hospital-fi")
    assert release.digest == record.release
    assert release.manifest.constants["qc_report_digest"] == record.quality_report
    assert record.completeness["bmi_kg_m2"] == 100 > record.completeness["ldl_c_mmol_l"] > 80


def test_values_are_those_of_the_cohort_that_was_written(hospital: Path, tmp_path: Path) -> None:
    """The export rounds to what a laboratory prints; back in the profile's units they are near the truth."""
    import duckdb

    from federome.demo import synthetic

    synthetic.write_hospital(tmp_path / "truth", "FI", people=120, variants=4_000, seed=3)
    made = course(hospital, tmp_path / "node")
    made.run("harmonise")
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT t.ldl_c_mmol_l, m.ldl_c_mmol_l, t.hba1c_mmol_mol, m.hba1c_mmol_mol, t.creatinine_umol_l, "
            "m.creatinine_umol_l, t.diagnosis_icd10 = m.diagnosis_icd10 AND t.diagnosis_year = m.diagnosis_year "
            "AND t.hpo_terms = m.hpo_terms AND t.medication_atc = m.medication_atc AND t.sample_date = m.sample_date "
            "AND t.birth_year = m.birth_year AND t.smoking = m.smoking AND t.sex = m.sex "
            "AND (t.case_status = m.case_status) "
            f", m.consent_tier FROM read_parquet('{tmp_path / 'truth' / 'phenotypes.parquet'}') t "
            f"JOIN read_parquet('{made.made / 'phenotypes.parquet'}') m ON m.person_id = 'HOSP-' || t.person_id"
        ).fetchall()
    assert len(rows) == 120
    assert all(row[6] for row in rows)
    assert {"none", "secondary-use"} <= {row[7] for row in rows}
    assert sum(row[7] == "secondary-use" for row in rows) > 90
    values = np.array([[np.nan if v is None else v for v in row[:6]] for row in rows], float)
    for column, step in ((0, 0.0013), (2, 0.55), (4, 0.45)):  # half of the last digit printed
        ours, theirs = values[:, column + 1], values[:, column]
        assert (np.isnan(ours) == np.isnan(theirs)).all()
        assert np.nanmax(np.abs(ours - theirs)) <= step * 1.01
    assert truth_path(tmp_path / "truth").is_file()


def test_nobody_without_a_valid_record_is_ever_visible(hospital: Path, tmp_path: Path) -> None:
    lines = (hospital / "consent.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    run = sum(r[3] == "secondary-use" and r[6] > "2026" and not r[7] for r in rows)
    match = sum(r[3] in ("secondary-use", "subject-query") and r[6] > "2026" and not r[7] for r in rows)
    course(hospital, tmp_path / "node").run()
    assert seen(tmp_path / "node", Use("run", "research")) == run < match
    assert seen(tmp_path / "node", Use("match", "research")) == match < 120


def test_without_any_consent_nobody_is(hospital: Path, tmp_path: Path) -> None:
    (hospital / "consent.csv").unlink()
    made = course(hospital, tmp_path / "node")
    made.run()
    assert [f.count for f in made.findings if f.message.startswith("people have no consent")] == [120]
    assert seen(tmp_path / "node", Use("frequency", "statistics")) == 0


def test_it_stops_without_a_mapping_and_takes_the_one_that_is_there(hospital: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no mapping\.toml"):
        course(hospital, tmp_path / "node", accept_mapping=False).run()
    first = course(hospital, tmp_path / "node")
    first.run("map")
    suggested = (first.work / "mapping.toml").read_text()
    (hospital / "mapping.toml").write_text(suggested)
    again = course(hospital, tmp_path / "node", accept_mapping=False)
    again.run("map")
    assert again.plan == first.plan


def test_a_column_that_is_neither_mapped_nor_left_out_stops_it(hospital: Path, tmp_path: Path) -> None:
    first = course(hospital, tmp_path / "node")
    first.run("map")
    text = (first.work / "mapping.toml").read_text().replace('Ward = "no field', '# Ward = "no field')
    assert "Ward" in text
    (hospital / "mapping.toml").write_text(text.replace('"Ward" = ', '# "Ward" = '))
    with pytest.raises(Invalid, match="neither mapped nor left out: Ward"):
        course(hospital, tmp_path / "node").run()


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["harmonise", "quality", "release", "catalogue"])
def test_killed_before_a_step_the_next_attempt_ends_the_same(
    step: str, exported: Path, whole: DatasetRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_self: Course) -> None:
        raise Died

    assert step in STEPS
    with monkeypatch.context() as patch:
        patch.setattr(Course, f"_{step}", die)
        with pytest.raises(Died):
            course(exported, tmp_path / "node").run()
    released = "hospital-fi" in Store.open(tmp_path / "node" / "data").datasets()
    assert released == (step == "catalogue")
    assert course(exported, tmp_path / "node").run() == whole
    assert len(Store.open(tmp_path / "node" / "data").releases("hospital-fi")) == 1


def test_run_again_it_changes_nothing_and_other_files_need_another_batch(hospital: Path, tmp_path: Path) -> None:
    judged = []

    def judge(_writer: object, folder: Path, owners: object) -> Verdict:
        judged.append(folder)
        return accepting(None, folder, owners)

    first = course(hospital, tmp_path / "node", judge=judge).run()
    assert course(hospital, tmp_path / "node", judge=judge).run() == first
    assert len(judged) == 1
    text = (hospital / "consent.csv").read_text()
    (hospital / "consent.csv").write_text(text + "\n")
    with pytest.raises(Invalid, match="released before"):
        course(hospital, tmp_path / "node", judge=judge).run()


def refusing(*samples: str) -> Callable[[object, Path, object], Verdict]:
    reason = Finding("contamination", "refuse", "reads of somebody else.")

    def judge(_writer: object, _folder: Path, _owners: object) -> Verdict:
        each = tuple(SampleVerdict(sample, "refuse", (reason,)) for sample in samples)
        return Verdict("hospital-fi", "refer" if samples else "refuse", 120, "test", (reason,) * (not samples), each)

    return judge


def test_a_refused_batch_is_not_released(hospital: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="refuses the batch: reads of somebody else"):
        course(hospital, tmp_path / "node", judge=refusing(), leave_out_refused=True).run()
    assert not Store.open(tmp_path / "node" / "data").datasets()


def test_refused_samples_stay_out_if_that_is_wanted(hospital: Path, tmp_path: Path) -> None:
    judge = refusing("HOSP-FI-0000002", "HOSP-FI-0000005")
    with pytest.raises(Invalid, match="refuses 2 samples"):
        course(hospital, tmp_path / "node", judge=judge).run()
    course(hospital, tmp_path / "node", judge=judge, leave_out_refused=True).run()
    store = Store.open(tmp_path / "node" / "data")
    assert store.release("hospital-fi").people == 118


RESEARCH = Use("run", "research")


def other_hospital(first: Path, place: Path, *, prefix: str = "", born: str = "") -> Path:
    """Another provider whose patients have the same numbers, and of whom nobody has consented to anything."""
    shutil.copytree(first, place)
    words = (place / "provider.toml").read_text().replace("hospital-fi", "hospital-b").replace("HOSP-001", "HOSP-002")
    (place / "provider.toml").write_text(words.replace('id = "', f'person_prefix = "{prefix}"\nid = "', 1))
    (place / "consent.csv").unlink()
    if born:
        table = (place / "patients.csv").read_text(encoding="cp1252")
        (place / "patients.csv").write_text(table.replace(".19", born), encoding="cp1252")
    return place


def test_hospitals_with_equal_numbers_share_consents_only_if_the_operator_says_so(
    exported: Path, tmp_path: Path
) -> None:
    node = tmp_path / "node"
    course(exported, node).run()
    consented = seen(node, RESEARCH)
    other = other_hospital(exported, tmp_path / "b")
    with pytest.raises(Invalid, match=r"120 ids are those of people in another dataset.*hospital-fi") as refused:
        course(other, node).run()
    assert "--same-people" in refused.value.remedy
    assert Store.open(node / "data").datasets() == ("hospital-fi",)
    assert seen(node, RESEARCH) == consented > 90

    course(other_hospital(exported, tmp_path / "c", prefix="B."), node, batch="c").run()
    assert seen(node, RESEARCH, "hospital-b") == 0
    assert seen(node, RESEARCH) == consented


def test_the_same_people_share_one_consent_and_that_is_said(exported: Path, tmp_path: Path) -> None:
    """What happens where nobody asks: the second hospital's patients answer on the first one's consents."""
    node = tmp_path / "node"
    course(exported, node).run()
    unlike = other_hospital(exported, tmp_path / "c", born=".18")
    with pytest.raises(Invalid, match="another sex or year of birth"):
        course(unlike, node, same_people=True).run("validate")
    made = course(other_hospital(exported, tmp_path / "b"), node, same_people=True)
    made.run()
    assert [f.count for f in made.findings if "share one consent" in f.message] == [120]
    assert seen(node, RESEARCH, "hospital-b") == seen(node, RESEARCH) > 90


def test_a_prefix_goes_before_people_in_tables_consents_and_evidence(hospital: Path, tmp_path: Path) -> None:
    """Verdicts are of the same people, and as many consented, as without a prefix."""
    words = (hospital / "provider.toml").read_text()
    (hospital / "provider.toml").write_text(words.replace('id = "', 'person_prefix = "B."\nid = "', 1))
    (hospital / "quality").mkdir()
    (hospital / "quality" / "samples.csv").write_text("sample,sequenced\nHOSP-FI-0000001,run-1\n")
    owners: dict[str, str] = {}

    def judging(writer: BatchWriter, folder: Path, names: Mapping[str, str]) -> Verdict:
        owners.update(names)
        return judge(writer, folder, names, today=TODAY).told()

    made = course(hospital, tmp_path / "node", judge=judging)
    made.run()
    assert owners["HOSP-FI-0000001"] == "B.HOSP-FI-0000001"
    assert set(made.names) == set(owners.values())
    assert len(made.consented.visible) > 90


def test_numbers_agree_with_their_words(hospital: Path, tmp_path: Path) -> None:
    said: dict[str, str] = {}
    (hospital / "consent.csv").unlink()
    made = course(hospital, tmp_path / "node")
    made.tell = lambda step, text: said.update({step: text})
    made.run("validate")
    assert said["inspect"].startswith("1 table, ")
    assert said["validate"].endswith(", 1 warning")


def test_codes_come_in_through_a_reviewed_crosswalk(hospital: Path, tmp_path: Path) -> None:
    """All the way to a cohort: a person with a broad match only is neither with nor without the diagnosis."""
    made = course(hospital, tmp_path / "first")
    made.run("harmonise")
    table = made.plan.table[0]
    how = made.plan.fields()["diagnosis_icd10"][1]
    codes = {code for (code,) in made.people.connection.execute(
        "SELECT DISTINCT unnest(diagnosis_icd10) FROM people").fetchall()}  # fmt: skip
    broad = sorted(codes)[0]
    hit = made.people.connection.execute(
        "SELECT count(*) FROM people WHERE list_contains(diagnosis_icd10, ?)", [broad]
    ).fetchall()[0][0]
    assert 0 < hit < 24
    lines = [f"{code},{code},{'broad' if code == broad else 'exact'},test,Reviewer,2026-01-01" for code in codes]
    lines += [f"{code.replace('.', '')},{code},{'broad' if code == broad else 'exact'},test,Reviewer,2026-01-01"
              for code in codes if "." in code]  # fmt: skip
    (hospital / "crosswalk-icd.csv").write_text("\n".join((",".join(HEADER), *lines)) + "\n")
    fields = {**table.fields, "diagnosis_icd10": replace(how, crosswalk="crosswalk-icd.csv")}
    plan = replace(made.plan, table=(replace(table, fields=fields), *made.plan.table[1:]))
    (hospital / "mapping.toml").write_text(to_toml(plan))
    walked = course(hospital, tmp_path / "node")
    assert walked.run() is not None
    assert {each.value: each.count for each in walked.findings if each.rule == "V15"}["broad"] == hit
    everybody, having, free = (
        seen(tmp_path / "node", Use("run", "research"), cohort=cohort)
        for cohort in (
            EVERYBODY,
            *(Cohort(diagnoses=(Diagnosis(broad, descendants=False, present=present),)) for present in (True, False)),
        )
    )
    assert having == 0
    assert 0 < everybody - free <= hit
