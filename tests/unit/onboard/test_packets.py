"""Phenopackets as a way in: table, mapping, what was left, and the packets back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.ingest.test_phenotypes import PACKET

from federome.errors import Invalid
from federome.ingest.phenopackets import read_phenopackets
from federome.onboard import mapping, packets
from federome.onboard.convert import convert, open_workbench
from federome.onboard.packets import NOT_TAKEN, take_in_packets

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def test_packets_become_a_table_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    second = {**PACKET, "subject": {**PACKET["subject"], "id": "P1", "timeAtLastEncounter": {"age": {}}}}  # type: ignore[dict-item]
    (tmp_path / "all.json").write_text(json.dumps([PACKET, second]))
    told = take_in_packets(
        tmp_path / "all.json", tmp_path / "in", {"sample_organism": "x"}, back=tmp_path / "back.json", now=NOW
    )
    plan = mapping.read_mapping(tmp_path / "in" / mapping.NAME)
    people = convert(open_workbench(tmp_path / "s"), plan, tmp_path / "in", scratch=tmp_path, mend=False)
    assert not people.findings and people.count == 2
    query = "SELECT person_id, birth_year, diagnosis_icd10, bmi_kg_m2 FROM people ORDER BY person_id"
    assert people.connection.execute(query).fetchone() == ("P0", 1970, ["I25.1", "E78.0"], 27.5)
    assert told.left["Phenopacket", "diseases (of no field)", "no field of the profile"] == 4
    assert json.loads((tmp_path / "in" / NOT_TAKEN).read_text())["rows"] == {"people": 2}
    assert read_phenopackets(tmp_path / "back.json").rows == read_phenopackets(tmp_path / "all.json").rows


def test_what_a_packet_is_silent_of_stays_unknown(tmp_path: Path) -> None:
    silent = {**PACKET, "subject": {**PACKET["subject"], "id": "P1"}, "phenotypicFeatures": []}  # type: ignore[dict-item]
    del silent["medicalActions"]
    (tmp_path / "all.json").write_text(json.dumps([PACKET, silent]))
    take_in_packets(tmp_path / "all.json", tmp_path, {}, back=None, now=NOW)
    plan = mapping.read_mapping(tmp_path / mapping.NAME)
    people = convert(open_workbench(tmp_path / "s"), plan, tmp_path, scratch=tmp_path, mend=False)
    lists = people.connection.execute("SELECT hpo_terms, medication_atc FROM people ORDER BY person_id").fetchall()
    assert not people.findings and lists == [(["HP:0001677"], ["C10AA05", "B01AC06"]), ([], None)]


def test_a_field_that_would_change_on_the_way_stops_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "one.json").write_text(json.dumps(PACKET))
    lossy = packets.to_packet
    monkeypatch.setattr(packets, "to_packet", lambda row, created: lossy({**row, "birth_year": "1"}, created=created))
    with pytest.raises(Invalid, match="does not come back"):
        take_in_packets(tmp_path / "one.json", tmp_path / "in", {}, back=None, now=NOW)
    assert not list((tmp_path / "in").iterdir())
