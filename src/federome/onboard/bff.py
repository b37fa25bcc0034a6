"""A Beacon of the Beacon Friendly Format becomes a node's datasets: counted, published, and ready to be served.

People and genotypes go into the node's store like any other batch, so that floors, audit and budget hold for them. A
dataset without carriers is its frequencies; they are published under the same floors as a table that was counted here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from federome.disclosure.risk import Question, power, price, rho_at
from federome.errors import Invalid, Refused
from federome.ingest.fasta import Fasta
from federome.ingest.known import StoredSites
from federome.ingest.namesakes import Namesakes, Traits, check_namesakes, differ, find_namesakes
from federome.ingest.source import Tally, fingerprint
from federome.ingest.stream import Stream
from federome.model.dataset import DatasetManifest
from federome.model.release import Policy
from federome.model.table import Column, Mask, Table
from federome.model.variant import Assembly, chromosome_rank, trim
from federome.network import publication
from federome.network.discovery import set_opened
from federome.network.files import replace_file
from federome.network.publication import CHANGES, COUNTS, FOLDER, ZYGOSITY, Publication, Tier
from federome.network.publishing import TOTAL, publish_into
from federome.network.setup import make_keys, node_settings
from federome.onboard.bff_people import People, read_people
from federome.onboard.bff_read import Entry, entries, find
from federome.onboard.bff_variants import BffSource, Counts, Listed, Variants, read_variants
from federome.store.catalogue import Store
from federome.store.writer import BatchWriter
from federome.trust.canonical import digest_bytes

KINDS: Final = ("datasets", "individuals", "biosamples", "runs", "analyses", "cohorts", "genomicVariations",
                "caseLevelData", "targets")  # fmt: skip
OPEN: Final = Policy(k_min=1, k_public=1, open_data=True)
_DUO: Final = {
    "DUO:0000004": "NRES",
    "DUO:0000042": "GRU",
    "DUO:0000006": "HMB",
    "DUO:0000007": "DS",
    "DUO:0000011": "POA",
}


@dataclass(frozen=True)
class Wanted:
    """What the operator decides. Nothing about people is open unless they say so."""

    tier: Tier = "registered"
    open_data: bool = False
    synthetic: bool = False
    assembly: Assembly | None = None
    holder: str = ""
    fasta: Path | None = None
    person_prefix: str = ""
    same_people: bool = False


@dataclass(frozen=True)
class Imported:
    """One dataset as it stands at the node. ``refused`` says why no table was published; ``left_out`` counts what the
    node has no place for, by kind.
    """

    dataset: str
    called: str
    people: int
    variants: int
    published: int
    refused: str
    left_out: Mapping[str, int]


def import_bff(
    source: Path, folder: Path, wanted: Wanted, *, node: str, today: date, clock: Callable[[], float]
) -> list[Imported]:
    """Read all files, then write; ``Invalid`` with file and entry, and the node is as it was, for what does not fit.

    A folder that is no node yet becomes one that stands alone: keys of its own, no hub.
    """
    datasets = {entry.needed("id"): entry for entry in entries(source, "datasets")}
    if not datasets:
        raise Invalid(
            "no dataset is described.", where=str(source), remedy="Add datasets.json with one entry a dataset."
        )
    names = {called: _slug(called, entry) for called, entry in datasets.items()}
    people = read_people(source, datasets)
    variants = read_variants(source, people, wanted.assembly)
    for each in people.values():
        each.names = [wanted.person_prefix + name for name in each.names]
    _check_others(source)
    for called, entry in datasets.items():
        if called not in variants or not variants[called].listed:
            raise Invalid(
                "the dataset has no variants.", where=entry.where, remedy="Add them to genomicVariations.json."
            )
        if variants[called].of_people and not people[called].names:
            raise Invalid("carriers are told of, but no people.", where=entry.where, remedy="Add individuals.json.")
    _check_ids(source, folder, {names[called]: found for called, found in people.items()}, wanted)
    alone(folder, node)
    out = []
    for called, entry in datasets.items():
        about = _manifest(names[called], entry, variants[called], wanted)
        if variants[called].of_people:
            out.append(
                _with_people(source, folder, about, called, people[called], variants[called], wanted, today, clock)
            )
        else:
            out.append(_frequencies(folder, about, called, variants[called], wanted, today))
    return out


def alone(folder: Path, node: str) -> None:
    """Make the folder a node that belongs to no network, unless it is a node."""
    make_keys(folder)
    if not (folder / "node.toml").is_file():
        settings = {"name": node, "hub": "", "hub_url": "", "network": "production"}
        replace_file(folder / "node.toml", "".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()).encode())


def _check_ids(source: Path, folder: Path, people: Mapping[str, People], wanted: Wanted) -> None:
    """``Invalid`` where two datasets, of the node or of these files, have people of one id: they share consents."""
    store = Store.open(folder / "data") if (folder / "data").is_dir() else None
    earlier: dict[str, tuple[str, Traits]] = {}
    for dataset, some in people.items():
        traits = some.traits()
        # Whatever a node calls its profile, these are people with consents, and no public panel.
        found = find_namesakes(store, dataset, "minimal-dataset", traits) if store else Namesakes()
        here = {name: earlier[name] for name in traits if name in earlier}
        unlike = {name for name, (_, its) in here.items() if differ(its, traits[name])}
        check_namesakes(
            found.plus(here, unlike, {other for other, _ in here.values()}),
            same_people=wanted.same_people,
            where=str(find(source, "individuals") or source),
            prefix="--person-prefix",
        )
        earlier.update((name, (dataset, its)) for name, its in traits.items())


def _slug(called: str, entry: Entry) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", called.lower()).strip("._-")[:63]
    if not name:
        raise Invalid("the id has no letters or digits.", where=entry.at("id"), remedy="Give the dataset another id.")
    return name


def _check_others(source: Path) -> None:
    """Entries that are not kept must be sound all the same: a broken export is not half imported."""
    for kind in ("analyses", "cohorts"):
        for entry in entries(source, kind):
            entry.needed("id")
    if find(source, "genomicVariations") is None:
        raise Invalid("there are no variants.", where=str(source), remedy="Add genomicVariations.json.")


def _manifest(name: str, entry: Entry, variants: Variants, wanted: Wanted) -> DatasetManifest:
    terms = [each.text("id") for each in entry.child("dataUseConditions").children("duoDataUse")]
    permission = next((_DUO[term] for term in terms if term in _DUO), "")
    return DatasetManifest(
        id=name,
        title=entry.text("name") or name,
        holder=wanted.holder or "imported",
        profile="reference-genotypes",
        assembly=variants.assembly,
        policy=OPEN if wanted.open_data else Policy(),
        synthetic=wanted.synthetic,
        data_use={"permission": permission} if permission else {},
    )


def _with_people(
    source: Path,
    folder: Path,
    about: DatasetManifest,
    called: str,
    people: People,
    variants: Variants,
    wanted: Wanted,
    today: date,
    clock: Callable[[], float],
) -> Imported:
    """People and genotypes into the store; counted from now on, and published as far as the policy allows."""
    store, tally = Store.open(folder / "data"), Tally()
    files = [path for kind in KINDS if (path := find(source, kind)) is not None]
    of = BffSource(variants, people, fingerprint(files))
    men = np.array([sex == "male" for sex in people.sexes], np.bool_)
    fasta = Fasta.open(wanted.fasta) if wanted.fasta else None
    written = 0
    with BatchWriter.begin(store, about, "bff", people.names, people.sexes, source=of.fingerprint) as writer:
        for chunk in Stream(of, about.assembly, men, tally, fasta, StoredSites(store, about)):
            written += len(chunk)
            if not writer.done(chunk.chromosome):
                chunk.write(writer)
        writer.set_phenotypes(people.table())
        writer.set_genes(variants.genes())
        writer.commit(today)
    set_opened(folder, about.id, wanted.tier)
    published, refused = 0, ""
    try:
        told, _ = publish_into(folder, about.id, clock=clock, by_sex="unknown" not in people.sexes, tier=wanted.tier)
        published = told.sites
    except Refused as refusal:  # the people can be counted all the same
        refused = str(refusal)
    left_out = people.left_out + variants.left_out + Counter({"genomicVariations: given twice": tally.duplicates})
    return Imported(about.id, called, len(people.names), written, published, refused, +left_out)


# frequencies alone


def _frequencies(
    folder: Path, about: DatasetManifest, called: str, variants: Variants, wanted: Wanted, today: date
) -> Imported:
    """A table of what was counted elsewhere, under this node's floors; refused where it would tell too much."""
    policy = about.policy.public()
    strata = _strata(variants.listed) if policy.open_data else (TOTAL,)
    table = _table(variants.listed, strata, policy)
    called_alleles = np.where(table.withheld["called_alleles"], 0, table.ints("called_alleles")).max(axis=0, initial=0)
    people, smallest = int(called_alleles[0]) // 2, int(called_alleles[called_alleles > 0].min(initial=2**62)) // 2
    rho = price(Question(people=max(smallest, 1), sites=float(table.rows), open_data=policy.open_data))
    if rho > rho_at(policy.membership_power):
        raise Refused(
            f"{table.rows:,} variants of {smallest:,} people would let a membership test find "
            f"{100 * power(rho):.0f} of 100 people; at most {100 * policy.membership_power:.0f} are allowed.",
            codes=["budget_exhausted"],
            where=called,
            remedy="If the holder declares these frequencies open, say so: --open",
        )
    told = Publication(
        dataset=about.id,
        node=node_settings(folder).name,
        title=about.title,
        holder=about.holder,
        assembly=about.assembly,
        release=digest_bytes(table.to_bytes()),
        released_on=today,
        people=(people + 2) // 5 * 5,
        strata=strata,
        k=policy.threshold,
        sites=table.rows,
        rho=rho,
        power=power(rho),
        open_data=policy.open_data,
        synthetic=about.synthetic,
        table=digest_bytes(table.to_bytes()),
        tier=wanted.tier,
        data_use=dict(about.data_use) or None,
        genes=tuple((g.symbol, g.chromosome, str(g.start), str(g.end)) for g in variants.genes()),
    )
    publication.write(folder / FOLDER, told, table)
    left_out = variants.left_out + Counter({"genomicVariations: too few people": len(variants.listed) - table.rows})
    return Imported(about.id, called, 0, len(variants.listed), table.rows, "", +left_out)


def _strata(listed: Sequence[Listed]) -> tuple[str, ...]:
    """The populations, the total first."""
    names = dict.fromkeys(name for each in listed for name in each.counted)
    return (TOTAL, *(name for name in names if name != TOTAL))


def _total(each: Listed) -> Counts:
    counts = each.counted.get(TOTAL) or (next(iter(each.counted.values())) if len(each.counted) == 1 else (None, None))
    if counts[0] is None or counts[1] is None:
        raise Invalid(
            "neither who carries this variant nor how many alleles were counted in all is told.",
            where=each.where,
            remedy="Give caseLevelData, or frequencies with population Total, alleleCount and alleleNumber: a "
            "frequency alone cannot be held to a minimum of people.",
        )
    return counts


def _table(listed: Sequence[Listed], strata: tuple[str, ...], policy: Policy) -> Table:
    """What may be told. Of data that are not open, variants of enough alleles of either kind, and no zygosity: how the
    people of a count elsewhere are divided is not known here.
    """
    safe = 0 if policy.open_data else 2 * policy.threshold  # alleles: at least so many people, whatever their genotypes
    kept: dict[tuple[str, int, str, str], tuple[Listed, list[Counts]]] = {}
    for each in listed:
        counts = [_total(each), *(each.counted.get(name, (None,) * 5) for name in strata[1:])]
        alternate, number = counts[0][0] or 0, counts[0][1] or 0
        place = (each.place[0], *trim(*each.place[1:]))
        if place in kept:
            raise Invalid("this variant is there twice.", where=each.where, remedy="Keep the counts of one source.")
        if alternate >= safe and number - alternate >= safe:
            kept[place] = each, counts
    order = sorted(kept, key=lambda place: (chromosome_rank(place[0]), *place[1:]))
    columns: dict[str, Column] = {
        "chromosome": np.array([place[0] for place in order], np.str_),
        "position": np.array([place[1] for place in order], np.int64),
        "ref": np.array([place[2] for place in order], np.str_),
        "alt": np.array([place[3] for place in order], np.str_),
    }
    withheld: dict[str, Mask] = {}
    for at, name in enumerate((*COUNTS, *ZYGOSITY)):
        cells = [[(*each, *(None,) * 5)[at] for each in kept[place][1]] for place in order]
        hidden = np.array([[cell is None for cell in row] for row in cells], np.bool_).reshape(len(order), len(strata))
        withheld[name] = hidden | (bool(safe) and name in ZYGOSITY)
        filled = np.array([[cell or 0 for cell in row] for row in cells], np.int64).reshape(hidden.shape)
        columns[name] = np.where(withheld[name], 0, filled)
    changes = [";".join(f"{g} {c}" for g, c in kept[place][0].effects if c.startswith("p.")) for place in order]
    return Table(columns | ({CHANGES: np.array(changes)} if any(changes) else {}), withheld)
