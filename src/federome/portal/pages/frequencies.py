"""How often a variant is seen, by country, ancestry and sex: one search box, asked of all Beacons of the network.

The page waits a moment and shows who has answered; the rest come one by one while it is open. Without JavaScript it
waits for all of them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from federome.errors import Invalid, Unavailable
from federome.network.doors import open_to
from federome.portal.charts import Bar, Chart, bars
from federome.portal.languages import N_, Language
from federome.portal.notations import EXAMPLES, read
from federome.portal.route import pages_of
from federome.portal.searches import Search, Searches, Seek
from federome.portal.site import PREFIX, Face, MenuEntry, Site, visit_of

PLACE: Final = f"{PREFIX}/frequencies"
MOST: Final = 200
"""Variants that one Beacon may tell for one page."""
TOTAL: Final = "Total"
GRACE_S: Final = 0.5
"""How long a page waits before it shows what is there."""
OUTCOMES: Final[Mapping[str, str]] = {
    "answered": N_("answered"),
    "waiting": N_("has not answered yet"),
    "refused": N_("refused"),
    "late": N_("did not answer in time"),
    "away": N_("could not be reached"),
    "not a Beacon": N_("gave an answer that cannot be read"),
}
SEXES: Final[Mapping[str, str]] = {"F": N_("women"), "M": N_("men"), "": N_("everybody")}


@dataclass(frozen=True)
class Seen:
    """One cell of a published table: a variant in a group of one dataset. ``None`` where a count is withheld."""

    variant: str
    hgvs: str
    country: str
    dataset: str
    group: str
    frequency: float
    alternate: int | None
    called: int | None
    homozygous: int | None

    @property
    def ancestry(self) -> str:
        """The group's population; nothing for everybody."""
        return "" if self.group in (TOTAL, "F", "M") else self.group.removesuffix("_F").removesuffix("_M")

    @property
    def sex(self) -> str:
        """``F``, ``M``, or nothing for everybody."""
        return self.group if self.group in ("F", "M") else {"_F": "F", "_M": "M"}.get(self.group[-2:], "")


@dataclass(frozen=True)
class Found:
    """What the network said: the cells, each node's outcome, and nodes that hold more than they could tell."""

    seen: tuple[Seen, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    cut: Mapping[str, int] = field(default_factory=dict)

    @property
    def variants(self) -> tuple[str, ...]:
        """Every variant once, in the order of the answers."""
        return tuple(dict.fromkeys(each.variant for each in self.seen))

    @property
    def silent(self) -> tuple[Mapping[str, Any], ...]:
        """The nodes that gave no answer, or hold datasets that did not join in one."""
        return tuple(n for n in self.nodes if n["outcome"] not in ("answered", "waiting") or n.get("withheld"))

    @property
    def waiting(self) -> tuple[Mapping[str, Any], ...]:
        """The nodes that may still answer."""
        return tuple(node for node in self.nodes if node["outcome"] == "waiting")


def pages(site: Site, seek: Seek | None) -> Face:
    """The search, its news, and its answer as a file."""
    api = pages_of(site)
    searches = Searches(seek, site.clock) if seek is not None else None

    @api.get("/frequencies")
    @open_to("anyone")
    async def search(request: Request, q: str = "", assembly: str = "GRCh38", wait: str = "") -> Response:
        found, fault, seen = Found(), None, ""
        if q.strip() and searches is not None:
            try:
                under_way = searches.find(read(q, assembly), MOST)
                await under_way.within(None if wait else GRACE_S)
                seen, found = under_way.version, understood(under_way)
            except Invalid as error:
                fault = error
        told = {"q": q[:300], "assembly": assembly, "found": found, "fault": fault, "open": seek is not None}
        told |= {"outcomes": OUTCOMES, "sexes": SEXES, "examples": EXAMPLES, "most": MOST}
        told |= _shown(found, visit_of(request).language, assembly)
        asked = {"q": q, "assembly": assembly}
        told["download"] = f"{PLACE}.csv?{urlencode(asked)}"
        told["patient"] = f"{PLACE}?{urlencode(asked | {'wait': 'all'})}"
        told["news"] = f"{PLACE}/news?{urlencode(asked | {'seen': seen})}"
        status = 400 if fault else 200
        return await run_in_threadpool(lambda: site.page(request, "frequencies.html", status=status, **told))

    @api.get("/frequencies/news")
    @open_to("anyone")
    async def news(request: Request, q: str = "", assembly: str = "GRCh38", seen: str = "") -> Response:
        under_way = _searches(searches).find(read(q, assembly), MOST)
        return site.stream(request, lambda: under_way.version, seen[:40])

    @api.get("/frequencies.csv")
    @open_to("anyone")
    async def download(q: str = "", assembly: str = "GRCh38") -> Response:
        found = understood(await _searches(searches).find(read(q, assembly), MOST).within(None))
        answer = Response(as_csv(found), media_type="text/csv; charset=utf-8")
        answer.headers["Content-Disposition"] = 'attachment; filename="frequencies.csv"'
        return answer

    return Face(
        api,
        (
            MenuEntry(
                N_("Allele frequencies"), PLACE, says=N_("How often a variant is seen, by country, ancestry and sex.")
            ),
        ),
    )


def _searches(held: Searches | None) -> Searches:
    if held is None:
        raise Unavailable("this hub asks no Beacon.", remedy="Its operator must list them in beacons.toml.")
    return held


def understood(told: Search) -> Found:
    """What the Beacons said, read with care: an answer of another shape is said to be unreadable, and left out."""
    seen: list[Seen] = []
    nodes = {str(node["node"]): dict(node) for node in told.nodes}
    held: dict[str, int] = {}
    for each in told.sets:
        try:
            cells = [cell for record in each.get("results", ()) for cell in _cells(each, record)]
            held[each["member"]] = held.get(each["member"], 0) + int(each.get("resultsCount", 0))
        except (AttributeError, KeyError, TypeError, ValueError):
            nodes[str(each["member"])]["outcome"] = "not a Beacon"
            continue
        seen += cells
    cut = {name: count for name, count in held.items() if count > MOST}
    return Found(tuple(seen), tuple(nodes.values()), cut)


def as_csv(found: Found) -> str:
    """The cells and the nodes that did not answer, as a file; a withheld count is empty, never zero."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    for node in found.silent:
        write([f"# {node['country']} {node['node']}: {node['outcome']}"])
    for name, count in found.cut.items():
        write([f"# {name}: {MOST} of {count} variants"])
    write(
        ["variant", "hgvs", "country", "dataset", "ancestry", "sex", "frequency", "alternate", "called", "homozygous"]
    )
    for each in found.seen:
        counts = [each.alternate, each.called, each.homozygous]
        row = [each.variant, each.hgvs, each.country, each.dataset, each.ancestry, each.sex, each.frequency, *counts]
        write([_plain(cell) for cell in row])
    return out.getvalue()


def _plain(cell: object) -> object:
    """A text that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _cells(about: Mapping[str, Any], record: Mapping[str, Any]) -> list[Seen]:
    hgvs = record.get("identifiers", {}).get("genomicHGVSId", "")
    return [
        Seen(
            variant=str(record["variantInternalId"])[:200],
            hgvs=str(hgvs)[:200],
            country=str(about["country"]),
            dataset=str(about["id"])[:200],
            group=str(cell["population"])[:60],
            frequency=_share(cell["alleleFrequency"]),
            alternate=_count(cell, "alleleCount"),
            called=_count(cell, "alleleNumber"),
            homozygous=_count(cell, "alleleCountHomozygous"),
        )
        for source in record.get("frequencyInPopulations", ())
        for cell in source["frequencies"]
    ]


def _share(given: object) -> float:
    value = float(given)  # type: ignore[arg-type]
    if not 0 <= value <= 1:
        raise ValueError("a frequency is between 0 and 1")
    return value


def _count(cell: Mapping[str, Any], name: str) -> int | None:
    return int(cell[name]) if name in cell else None


def _shown(found: Found, language: Language, assembly: str) -> dict[str, object]:
    """One variant as a chart with every group; several as a table of everybody's frequencies by dataset."""
    if found.cut or not found.seen:
        return {"chart": None, "datasets": (), "rows": ()}
    if len(found.variants) == 1:
        return {"chart": _chart(found, language), "datasets": (), "rows": ()}
    datasets = list(dict.fromkeys((each.country, each.dataset) for each in found.seen))
    whole = {(each.variant, each.dataset): each.frequency for each in found.seen if each.group == TOTAL}
    names = {each.variant: each.hgvs for each in found.seen}
    rows = [
        (
            variant.partition(":")[2] if variant.startswith(assembly) else variant,
            f"{PLACE}?{urlencode({'q': variant, 'assembly': assembly})}",
            names[variant],
            [whole.get((variant, dataset)) for _, dataset in datasets],
        )
        for variant in found.variants
    ]
    return {"chart": None, "datasets": datasets, "rows": rows}


def _chart(found: Found, language: Language) -> Chart:
    say = language.gettext
    order: Sequence[Seen] = sorted(found.seen, key=lambda each: (each.group != TOTAL, each.group, each.country))
    drawn = [
        Bar(
            " ".join(filter(None, (each.country, each.ancestry, say(SEXES[each.sex]) if each.sex else ""))),
            each.frequency,
            series=1 if each.group == TOTAL else 2,
        )
        for each in order
    ]
    return bars(say(N_("Frequency of the alternate allele")), drawn, heads=(say(N_("Group")), say(N_("Frequency"))))
