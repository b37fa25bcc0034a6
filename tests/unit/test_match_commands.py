"""``federome ontology`` and ``federome match`` as a person types them, on a small ontology."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.ingest.test_ontologies import OBO, folder
from typer.testing import CliRunner

from federome.analysis.matching import MAX_TERMS
from federome.cli import app
from federome.errors import Invalid

RUN = CliRunner()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed ontology, and a corpus of three."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = RUN.invoke(app, ["ontology", "install", "--from", str(folder(tmp_path / "in")), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["terms"] == 4
    lines: list[dict[str, object]] = [
        {"id": "one", "observed": ["HP:0000003"], "candidate_genes": ["RARE", "TITIN"], "pmid": "a"},
        {"id": "two", "observed": ["HP:0000003"], "candidate_genes": ["TITIN"], "pmid": "b"},
        {"id": "three", "observed": ["HP:4444444"], "candidate_genes": ["RARE"], "pmid": "c"},
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_run_writes_ranked_lines_and_says_what_was_not_used(world: Path) -> None:
    queries = [
        {"id": "q", "observed": ["HP:0000003", "HP:0000009"], "candidate_genes": ["RARE"], "pmid": "z"},
        {"id": "lost", "observed": ["HP:5555555"], "pmid": "z"},
        {"id": "one", "observed": ["HP:0000003"], "candidate_genes": ["RARE"], "pmid": "a"},
    ]
    (world / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    out = world / "run.tsv"
    corpus, asked = str(world / "corpus.jsonl"), str(world / "queries.jsonl")
    command = ["match", "run", "--corpus", corpus, "--queries", asked, "--top", "2", "--out", str(out), "--json"]
    done = RUN.invoke(app, command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert [line[:2] for line in lines] == [["q", "one"], ["q", "two"], ["one", "two"], ["one", "three"]]
    assert all(float(score) > 0 for _, _, score in lines)
    assert told["unusable_queries"] == ["lost"] and told["corpus_without_usable_term"] == 1
    assert told["ignored_terms"] == {"HP:0000009 (obsolete)": 1, "HP:5555555 (unknown)": 1}
    spoken = RUN.invoke(app, command[:-1])
    assert "NOT matched (this is not 'no match'): lost" in spoken.stdout


def test_query_gives_reasons_and_refuses_what_cannot_be_asked(world: Path) -> None:
    corpus = str(world / "corpus.jsonl")
    done = RUN.invoke(app, ["match", "query", "--corpus", corpus, "--term", "HP:0000003", "--gene", "RARE"])
    assert done.exit_code == 0 and "Very tall" in done.stdout and "gene RARE" in done.stdout
    told = json.loads(RUN.invoke(app, ["match", "query", "--corpus", corpus, "--term", "HP:0000003", "--json"]).stdout)
    assert [m["id"] for m in told["matches"]] == ["one", "two"] and told["matches"][0]["phenotype"] == 1.0
    refused = RUN.invoke(app, ["match", "query", "--corpus", corpus, "--term", "HP:5555555"])
    assert isinstance(refused.exception, Invalid) and "HP:5555555 (unknown)" in str(refused.exception)
    refused = RUN.invoke(app, ["match", "query", "--corpus", corpus, "--gene", "not a gene"])
    assert isinstance(refused.exception, Invalid) and "it is no symbol" in str(refused.exception)


def test_a_query_that_finds_nobody_says_what_was_looked_at(world: Path) -> None:
    lines = [{"id": "a", "observed": ["HP:4444444"], "candidate_genes": ["GBA1"]}, {"id": "b", "observed": []}]
    (world / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    query = ["match", "query", "--corpus", str(world / "corpus.jsonl")]
    spoken = RUN.invoke(app, [*query, "--gene", "GBA"]).stdout
    assert spoken.startswith("GBA is withdrawn and was read as GBA1\na: probability")
    spoken = RUN.invoke(app, [*query, "--term", "HP:0000003", "--term", "HP:0000022"]).stdout
    assert "None of 2 cases shares a usable term or gene." in spoken and "2 cases of the corpus have no" in spoken
    told = json.loads(RUN.invoke(app, [*query, "--term", "HP:0000003", "--gene", "GBA", "--json"]).stdout)
    assert told["corpus_without_usable_term"] == 2 and len(told["notes"]) == 1
    (world / "corpus.jsonl").write_text(json.dumps({"id": "b", "observed": ["HP:0000003"]}))
    spoken = RUN.invoke(app, [*query, "--term", "HP:0000003", "--gene", "TITIN"]).stdout
    assert "genes were not compared: no case of the corpus has candidate genes" in spoken


def test_background_from_a_file(world: Path) -> None:
    (world / "rates.tsv").write_text("# network, 2030\nRARE\t0.0001\nTITIN\t0.2\n")
    corpus = str(world / "corpus.jsonl")
    command = ["match", "query", "--corpus", corpus, "--term", "HP:0000003", "--gene", "RARE", "--json", "--background"]
    told = json.loads(RUN.invoke(app, [*command, str(world / "rates.tsv")]).stdout)
    assert told["matches"][0]["gene_evidence"] == pytest.approx(9.2103)
    (world / "rates.csv").write_text("gene,assessed,carriers,rate\r\nTITIN,9000,,\r\nRARE,200000,20,0.0001\r\n")
    released = json.loads(RUN.invoke(app, [*command, str(world / "rates.csv")]).stdout)
    assert released["matches"] == told["matches"]
    (world / "rates.csv").write_text("gene,assessed,carriers,rate\nTITIN,9000,,\n")
    assert isinstance(RUN.invoke(app, [*command, str(world / "rates.csv")]).exception, Invalid)
    (world / "rates.tsv").write_text("RARE\t0\n")
    assert isinstance(RUN.invoke(app, [*command, str(world / "rates.tsv")]).exception, Invalid)
    (world / "rates.tsv").write_text("RARE\toften\n")
    assert isinstance(RUN.invoke(app, [*command, str(world / "rates.tsv")]).exception, Invalid)


def test_one_id_twice_or_nobody_is_refused(world: Path) -> None:
    corpus = str(world / "corpus.jsonl")
    twice = RUN.invoke(app, ["match", "query", "--corpus", corpus, "--corpus", corpus, "--term", "HP:0000003"])
    assert isinstance(twice.exception, Invalid)
    (world / "empty.jsonl").write_text("\n")
    nobody = RUN.invoke(app, ["match", "query", "--corpus", str(world / "empty.jsonl"), "--term", "HP:0000003"])
    assert isinstance(nobody.exception, Invalid)


def test_variants_on_another_assembly_and_withdrawn_genes_are_named(world: Path) -> None:
    seen = {"variant": "1:1000:A:G", "consequence": "missense_variant"}
    lines: list[dict[str, object]] = [
        {
            "id": "old",
            "observed": ["HP:0000003"],
            "candidate_variants": [{"gene": "GBA", "assembly": "GRCh37", **seen}],
        },
        {"id": "new", "observed": ["HP:0000003"], "candidate_variants": [{"gene": "GBA1", **seen}]},
    ]
    (world / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    corpus = [{"id": "case", "observed": ["HP:0000003"], "candidate_variants": [{"gene": "GBA1", **seen}]}]
    (world / "cases.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    files = ["--corpus", str(world / "cases.jsonl"), "--queries", str(world / "queries.jsonl")]
    command = ["match", "run", *files, "--out", str(world / "run.tsv")]
    told = json.loads(RUN.invoke(app, [*command, "--json"]).stdout)
    assert told["notes"] == [
        "old: GBA is withdrawn and was read as GBA1",
        "old: a variant on GRCh37 was left out: variants are compared on GRCh38",
    ]
    assert "a variant on GRCh37 was left out" in RUN.invoke(app, command).stdout
    scores = {line.split("\t")[0]: float(line.split("\t")[2]) for line in (world / "run.tsv").read_text().splitlines()}
    assert scores["new"] == pytest.approx(scores["old"] + 4.0 - 0.5)  # the same variant, against the same class


def test_a_thousand_terms_are_cut_by_name_and_a_cycle_is_refused(world: Path) -> None:
    cycle = folder(world / "cycle", OBO.replace("is_a: HP:7777777", "is_a: HP:0000003"))
    refused = RUN.invoke(app, ["ontology", "install", "--from", str(cycle)])
    assert isinstance(refused.exception, Invalid) and "cycle at or above HP:" in str(refused.exception)
    many = [f"HP:{number:07d}" for number in range(1000, 1000 + MAX_TERMS + 60)]
    wide = OBO + "".join(f"\n[Term]\nid: {term}\nname: {term}\nis_a: HP:0000002\n" for term in many)
    assert RUN.invoke(app, ["ontology", "install", "--from", str(folder(world / "wide", wide))]).exit_code == 0
    (world / "cases.jsonl").write_text(json.dumps({"id": "case", "observed": many[:1]}))
    asked = {"id": "q", "observed": [*many, *(f"HP:{number:07d}" for number in range(9_000_000, 9_000_740))]}
    (world / "queries.jsonl").write_text(json.dumps(asked))
    files = ["--corpus", str(world / "cases.jsonl"), "--queries", str(world / "queries.jsonl")]
    done = RUN.invoke(app, ["match", "run", *files, "--out", str(world / "run.tsv"), "--json"])
    ignored = json.loads(done.stdout)["ignored_terms"]
    reasons = [term.partition(" ")[2] for term in ignored]
    assert {why: reasons.count(why) for why in reasons} == {"(unknown)": 740, "(beyond the limit)": 60}
    assert (world / "run.tsv").read_text().startswith("q\tcase\t")
    spoken = RUN.invoke(app, ["match", "run", *files, "--out", str(world / "run.tsv")]).stdout
    assert "  and 790 more; --json names all\n" in spoken
