"""Frequency tables that anybody may read: made once for a data release, priced once, and free to query afterwards.

A publication is an answer like any other: the approved frequency algorithm on the people whose consent covers it,
through the gate under the holder's public policy. What it could tell about membership is priced when it is made; a
table that would tell too much is refused. Faces (Beacon) read publications and never the store.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federome.analysis.algorithm import Algorithm
from federome.analysis.allele_frequency import AlleleFrequency
from federome.analysis.program import Program, contribution
from federome.db import engine
from federome.disclosure.budgets import Charge
from federome.disclosure.door import gate, release
from federome.disclosure.risk import Question, power, price, rho_at
from federome.errors import Invalid, Refused
from federome.model.dataset import DatasetManifest
from federome.model.index import merge
from federome.model.release import Policy
from federome.model.table import Column, Mask, Table
from federome.model.variant import Region, chromosome_rank
from federome.network.consents import node_consents
from federome.network.holdings import StoreHoldings, StoreSite, open_holdings
from federome.network.publication import CHANGES, COUNTS, FOLDER, ZYGOSITY, Publication, Tier, write
from federome.network.question import Use
from federome.network.setup import node_settings
from federome.network.spending import SqlBudgets
from federome.quality import shelf
from federome.trust.canonical import digest_bytes

TOTAL: Final = "Total"
_SEXES: Final = {"male": "M", "female": "F"}
_NAMES: Final = ("chromosome", "position", "ref", "alt")
Ints = NDArray[np.int64]


def publish(
    holdings: StoreHoldings,
    dataset: str,
    *,
    node: str,
    regions: Sequence[str] = (),
    by_sex: bool = True,
    tier: Tier = "public",
    genes: Sequence[tuple[str, str, int, int]] = (),
) -> tuple[Publication, Table]:
    """The table of the newest data release of a dataset, and what is told about it.

    Rows are variants in genome order with ``chromosome, position, ref, alt``; ``alternate_alleles, called_alleles,
    homozygous, heterozygous, hemizygous`` have one column a stratum. ``Refused`` (``budget_exhausted``) where the
    table would let somebody who holds a genome recognise more of its people than the holder's policy allows.
    """
    newest = holdings.store.release(dataset)
    manifest = newest.manifest
    policy = manifest.policy.public()
    use = Use("frequency", "statistics")
    site = holdings.open(holdings.freeze([dataset], AlleleFrequency().cohort, use))
    if site.view.people < policy.k_public and not policy.open_data:
        raise Refused("too few people consented to be counted.", codes=["small_cell"], where=dataset)
    table, strata = _frequencies(site, manifest, regions, by_sex=by_sex, policy=policy)
    table = _with_changes(table, holdings, dataset)
    smallest = _smallest(table, strata)
    asked = Question(people=max(smallest, 1), sites=float(table.rows), open_data=policy.open_data)
    rho, limit = price(asked), rho_at(policy.membership_power)
    if rho > limit:
        raise Refused(
            f"{table.rows:,} variants of {smallest:,} people would let a membership test find "
            f"{100 * power(rho):.0f} of 100 people; the holder's policy allows {100 * policy.membership_power:.0f}.",
            codes=["budget_exhausted"],
            where=dataset,
            remedy=f"Publish at most {int(limit * smallest):,} variants: name regions, or leave out the sexes.",
        )
    about = Publication(
        dataset=dataset,
        node=node,
        title=manifest.title,
        holder=manifest.holder,
        assembly=manifest.assembly,
        release=newest.digest,
        released_on=newest.released_on,
        people=site.view.people if policy.open_data else _rounded(site.view.people),
        strata=strata,
        k=policy.threshold,
        sites=table.rows,
        rho=rho,
        power=power(rho),
        open_data=policy.open_data,
        synthetic=manifest.synthetic,
        table=digest_bytes(table.to_bytes()),
        tier=tier,
        data_use=dict(manifest.data_use) or None,
        genes=tuple((symbol, chromosome, str(first), str(last)) for symbol, chromosome, first, last in genes),
    )
    return about, table


def _frequencies(
    site: StoreSite, manifest: DatasetManifest, regions: Sequence[str], *, by_sex: bool, policy: Policy
) -> tuple[Table, tuple[str, ...]]:
    """All variants that may be told of, in genome order, with every stratum; cells that may not are marked."""
    asked = {"regions": tuple(regions), "assembly": manifest.assembly}
    whole = _answer(site, AlleleFrequency(**asked), policy)  # type: ignore[arg-type]
    whole = whole.take(~whole.withheld["alternate_alleles"])
    strata = [TOTAL]
    columns = {name: [whole[name][:, None]] for name in (*COUNTS, *ZYGOSITY)}
    hidden = {name: [whole.withheld[name][:, None]] for name in (*COUNTS, *ZYGOSITY)}
    row_of = {key: row for row, key in enumerate(_keys(whole))}
    for names, question in _partitions(manifest, asked, by_sex=by_sex):
        part = _answer(site, question, policy)
        cells, masks = _spread(part, row_of, {label: at for at, label in enumerate(names)})
        closed = _closed(whole, cells, masks, policy)
        strata += [_label(name) for name in names]
        for name in columns:
            columns[name].append(np.where(closed[:, None], 0, cells[name]))
            hidden[name].append(masks[name] | closed[:, None])
    named: dict[str, Column] = {name: whole[name] for name in _NAMES}
    counted: dict[str, Column] = {
        name: np.concatenate(parts, axis=1).astype(np.int64) for name, parts in columns.items()
    }
    table = Table(named | counted, {name: np.concatenate(parts, axis=1) for name, parts in hidden.items()})
    ranks = np.array([chromosome_rank(name) for name in table["chromosome"].tolist()], np.int64)
    order = np.lexsort((table["alt"], table["ref"], table.ints("position"), ranks)).astype(np.int64)
    return table.take(order), tuple(strata)


def _partitions(
    manifest: DatasetManifest, asked: Mapping[str, object], *, by_sex: bool
) -> Iterator[tuple[list[str], AlleleFrequency]]:
    """The ways in which everybody is divided: strata as the algorithm names them, and the question."""
    places = list(manifest.populations)
    if by_sex:
        yield ["female", "male"], AlleleFrequency(by="sex", **asked)  # type: ignore[arg-type]
    if places:
        yield places, AlleleFrequency(by="population", populations=tuple(places), **asked)  # type: ignore[arg-type]
    if places and by_sex:
        names = [f"{place}:{sex}" for place in places for sex in ("female", "male")]
        yield names, AlleleFrequency(by="sex-population", populations=tuple(places), **asked)  # type: ignore[arg-type]


def _answer(site: StoreSite, algorithm: Algorithm, policy: Policy) -> Table:
    """The algorithm's released frequencies over this node's people, under this node's public policy."""
    key = secrets.token_bytes(32)
    wanted = algorithm.reads.variants
    assert wanted is not None
    site.use(key)
    blocks = {block.number: block for block in merge((code, [tokens]) for code, tokens in site.tokens(wanted, key))}
    program = Program(algorithm, list(blocks.values()))
    while program.round is not None:
        for part in program.waiting:
            table = program.numbered(part, contribution(algorithm, site, blocks[part], program.state(part)))
            program.accept(part, gate(table, program.due, policy, contributors=1))
    finished = program.finish(lambda part, rows: site.names(blocks[part], rows, key))
    told = release(finished, algorithm.releases, policy, people=site.view.people).tables["frequencies"]
    # A table without withheld cells has no masks; here every column of numbers has one.
    masks = {n: told.withheld.get(n, np.zeros(told.rows, np.bool_)) for n in (*COUNTS, *ZYGOSITY)}
    return Table(dict(told.columns), masks)


def _with_changes(table: Table, holdings: StoreHoldings, dataset: str) -> Table:
    """The table, and what its variants do to genes and proteins where the data release says so."""
    keys = [
        (str(on), int(at), str(ref), str(alt)) for on, at, ref, alt in zip(*map(table.__getitem__, _NAMES), strict=True)
    ]
    found = holdings.effects(dataset, keys)
    if not found:
        return table
    told = [";".join(f"{gene} {change}" for gene, change in found.get(key, ())) for key in keys]
    return Table({**table.columns, CHANGES: np.array(told)}, table.withheld)


def _keys(table: Table) -> list[tuple[object, ...]]:
    return list(zip(*(table[name].tolist() for name in _NAMES), strict=True))


def _spread(
    part: Table, row_of: Mapping[tuple[object, ...], int], column_of: Mapping[str, int]
) -> tuple[dict[str, Ints], dict[str, Mask]]:
    """A long table as cells (variants, strata); where it says nothing, the cell is withheld."""
    rows = np.array([row_of.get(key, -1) for key in _keys(part)], np.int64)
    places = np.array([column_of[str(label)] for label in part["stratum"].tolist()], np.int64)
    told = rows >= 0
    shape = (len(row_of), len(column_of))
    cells = {name: np.zeros(shape, np.int64) for name in (*COUNTS, *ZYGOSITY)}
    masks = {name: np.ones(shape, np.bool_) for name in (*COUNTS, *ZYGOSITY)}
    for name in cells:
        cells[name][rows[told], places[told]] = part.ints(name)[told]
        masks[name][rows[told], places[told]] = part.withheld[name][told]
    return cells, masks


def _closed(whole: Table, cells: Mapping[str, Ints], masks: dict[str, Mask], policy: Policy) -> Mask:
    """Variants of which only the total is told, shape (variants,).

    One withheld cell closes its whole partition: the others would give it away. So does a remainder (people of
    unknown sex, or of no listed population) that is there but small in either allele. Zygosity of a partition is told
    only where it is told for all of it and nobody is left over.
    """
    if policy.open_data:
        return np.zeros(whole.rows, np.bool_)
    some_hidden: Mask = np.any(masks["alternate_alleles"] | masks["called_alleles"], axis=1)
    left = whole.ints("called_alleles") - cells["called_alleles"].sum(axis=1)
    left_alt = whole.ints("alternate_alleles") - cells["alternate_alleles"].sum(axis=1)
    safe = 2 * policy.threshold  # alleles: at least so many people, whatever their genotypes
    small: Mask = (left != 0) & ((left_alt < safe) | (left - left_alt < safe))
    for name in ZYGOSITY:
        masks[name] |= (np.any(masks[name], axis=1) | whole.withheld[name] | (left != 0))[:, None]
    return np.asarray(some_hidden | small, np.bool_)


def _label(stratum: str) -> str:
    """A stratum as Genome of Europe tables name it: ``M``, ``EE``, ``EE_M``."""
    place, _, sex = stratum.rpartition(":")
    if place:
        return f"{place}_{_SEXES[sex]}"
    return _SEXES.get(stratum, stratum)


def _smallest(table: Table, strata: Sequence[str]) -> int:
    """People behind the smallest stratum that is told of anywhere: half of its most called alleles, at least."""
    called = np.where(table.withheld["called_alleles"], 0, table.ints("called_alleles"))
    told = called.max(axis=0, initial=0)
    return int((told[told > 0] // 2).min(initial=int(told.max(initial=0)))) if len(strata) else 0


def _rounded(people: int) -> int:
    return (people + 2) // 5 * 5


def parse_regions(lines: Sequence[str]) -> tuple[str, ...]:
    """Regions from lines of text (``chromosome:start-end``), checked; blank lines and ``#`` comments are left out."""
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for text in kept:
        Region.parse(text)
    return tuple(kept)


def publish_into(
    folder: Path,
    dataset: str,
    *,
    clock: Callable[[], float],
    regions: Sequence[str] = (),
    genes: Sequence[str] = (),
    by_sex: bool = True,
    tier: Tier = "public",
    holdings: StoreHoldings | None = None,
) -> tuple[Publication, Path]:
    """Publish a dataset of a node's folder; returns what is told and where it lies. ``holdings`` if open already.

    The public's account of the data release is charged with what the table tells, once for the same table.
    ``Invalid`` for a gene that the dataset's gene map does not know.
    """
    log = engine(f"sqlite:///{folder / 'node.db'}", durable=True)
    holdings = holdings or open_holdings(folder, node_consents(folder), clock)
    release = holdings.store.release(dataset)
    known = holdings.store.genes(release)
    about, table = publish(
        holdings,
        dataset,
        node=node_settings(folder).name,
        regions=[*parse_regions(regions), *_of_genes(known, genes)],
        by_sex=by_sex,
        tier=tier,
        genes=known,
    )
    today = datetime.fromtimestamp(clock(), UTC).date()
    about = replace(about, quality=shelf.summary(folder, dataset, release.digest, today=today))
    budgets = SqlBudgets(log, clock)
    run = set_aside(budgets, about, limit=rho_at(release.manifest.policy.membership_power))
    place = write(folder / FOLDER, about, table)
    budgets.commit(run)
    return about, place


def set_aside(budgets: SqlBudgets, about: Publication, *, limit: float) -> str:
    """Reserve what a table tells the public, by dataset, since another's may be equal. Returns the run to commit.

    Tables once went by their digest alone; one that was paid for as such is not paid for again.
    """
    charges = [Charge(f"public:{about.release}", about.rho, limit)]
    earlier = f"table:{about.table}"
    if budgets.paid(earlier, charges):
        return earlier
    run = f"table:{about.dataset}:{about.table}"
    budgets.reserve(run, charges)
    return run


def _of_genes(known: Sequence[tuple[str, str, int, int]], genes: Sequence[str]) -> list[str]:
    wanted = {name.strip().upper() for name in genes if name.strip()}
    if unknown := wanted - {symbol.upper() for symbol, *_ in known}:
        raise Invalid(
            f"the gene map of this dataset does not know {', '.join(sorted(unknown))[:200]}.",
            where="genes",
            remedy="Use HGNC symbols, or name regions.",
        )
    return [f"{chromosome}:{first}-{last}" for symbol, chromosome, first, last in known if symbol.upper() in wanted]
