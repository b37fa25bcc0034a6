"""People in the Beacon: how many meet filters, carry variants, or both; of open data also who, and which variants.

Everything is asked of the node's desk (``network/discovery.py``), which lets nothing out that has not passed the door.
Here its answers become Beacon documents: rounding is declared, few people are "not told", and whoever may not ask is
told where to apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from federome.errors import Invalid, Missing, Refused
from federome.model.discovery import Carried, Counted, Criterion, Guest, Room, Sought
from federome.model.span import Span
from federome.model.variant import Assembly, Variant
from federome.standards.beacon import documents, filters
from federome.standards.beacon.documents import COHORT, VARIANT, Document, EntryType, Identity
from federome.standards.beacon.people_records import person_of, record
from federome.standards.beacon.request import (
    CHROMOSOMES,
    Asked,
    Granularity,
    Places,
    assembly_of,
    paginated,
    spans,
)
from federome.standards.beacon.shelf import molecular, variation
from federome.trust.canonical import Json

if TYPE_CHECKING:
    from federome.network.discovery import Desk

_EVERYWHERE: Final = tuple(map(Span, CHROMOSOMES))


@dataclass(frozen=True)
class _Answered:
    """One dataset's answer."""

    room: Room
    counted: Counted
    variants: tuple[Carried, ...] = ()


@dataclass(frozen=True)
class People:
    """The questions about people that a Beacon answers."""

    identity: Identity
    desk: Desk

    def answer(
        self, entry: EntryType, asked: Asked, guest: Guest, places: Places, *, of: tuple[EntryType, str] | None = None
    ) -> Document:
        """How many records of one kind there are; ``of`` limits them to those of one other record.

        ``Missing`` where that record is not one that may be told of.
        """
        person, at = self._of(of)
        wanted = [at] if at else spans(asked, places) if asked.of_variants else None
        assembly = assembly_of(asked, places)
        answered: list[_Answered] = []
        withheld: list[Document] = []
        unable: Invalid | None = None
        for room, sought in self._rooms(asked, guest, wanted, person, whole=entry is VARIANT, withheld=withheld):
            if assembly not in (None, room.assembly):
                withheld.append({"dataset": room.dataset, "needs": "to be on the asked assembly"})
                continue
            try:
                answered.append(self._ask(entry, room, sought))
            except Missing:
                continue  # the person is of another dataset
            except Invalid as failure:
                if failure.where != "aminoacidChange":
                    raise
                unable = failure
                withheld.append({"dataset": room.dataset, "needs": "to be annotated with changes of proteins"})
            except Refused as refusal:
                codes: list[Json] = [*refusal.codes]
                withheld.append({"dataset": room.dataset, "needs": refusal.message, "codes": codes})
        if unable is not None and not answered:
            raise unable
        if person is not None and not answered:
            raise Missing(f"no {of[0].id} of this id may be told of here." if of else "nothing is here.", where="id")
        return self._told(entry, asked, answered, withheld, guest, wanted, person)

    def _of(self, of: tuple[EntryType, str] | None) -> tuple[str | None, tuple[Assembly, Span] | None]:
        """The person or the variant that a path names."""
        if of is None:
            return None, None
        kind, name = of
        if kind is VARIANT:
            try:
                at = Variant.parse(name[:4000])
            except Invalid:
                raise Missing("no variant has this id here.", where="id") from None
            span = Span(at.chromosome, at.position, at.position, (at.position, at.position), None, at.ref, at.alt)
            return None, (at.assembly, span)
        person = person_of(kind.id, name[:400])
        if person is None:
            raise Missing(f"no {kind.id} of this id may be told of here.", where="id")
        return person, None

    def _rooms(
        self,
        asked: Asked,
        guest: Guest,
        wanted: Sequence[tuple[Assembly, Span]] | None,
        person: str | None,
        *,
        whole: bool,
        withheld: list[Document],
    ) -> Iterator[tuple[Room, Sought]]:
        """Datasets that can answer, each with its question; those that cannot are noted. ``Invalid`` if none can."""
        criterion = filters.criterion(asked.filters, asked.logic)
        rooms = [room for room in self.desk.rooms() if asked.datasets is None or room.dataset in asked.datasets]
        unknown = {room.dataset: filters.lacking(criterion, room) for room in rooms}
        if rooms and all(unknown.values()):
            name = next(iter(unknown.values()))
            raise Invalid(
                "nobody here is described by this.", where=f"filter {name[:60]}", remedy="See /filtering_terms."
            )
        for room in rooms:
            if unknown[room.dataset]:
                withheld.append({"dataset": room.dataset, "needs": f"to hold {unknown[room.dataset][:60]}"})
                continue
            here = None if wanted is None else tuple(span for assembly, span in wanted if assembly == room.assembly)
            if here == ():
                if whole and not asked.of_variants:
                    here = _EVERYWHERE
                elif wanted:
                    withheld.append({"dataset": room.dataset, "needs": "to be on the asked assembly"})
                    continue
            if here is None and whole:
                here = _EVERYWHERE
            yield room, Sought(room.dataset, criterion, here, guest, person)

    def _ask(self, entry: EntryType, room: Room, sought: Sought) -> _Answered:
        if entry is not VARIANT:
            return _Answered(room, self.desk.count(sought))
        found = self.desk.variants(sought)
        return _Answered(room, Counted(len(found)), found)

    def _told(
        self,
        entry: EntryType,
        asked: Asked,
        answered: Sequence[_Answered],
        withheld: Sequence[Document],
        guest: Guest,
        wanted: Sequence[tuple[Assembly, Span]] | None,
        person: str | None,
    ) -> Document:
        granularity: Granularity = asked.granularity
        recorded = [each for each in answered if entry is VARIANT or each.room.open_data]
        if granularity == "record" and (answered or withheld) and not recorded:
            granularity = "count"
        total = sum(each.counted.count for each in answered)
        releases = [room.release for room in self.desk.rooms()]
        page = paginated(replace(asked, granularity=granularity), total, releases)
        summary: Document = {"exists": total > 0}
        body: Document = {
            "meta": documents.meta(self.identity, asked, entry, granularity, page),
            "responseSummary": summary,
        }
        named = [str(each["dataset"]) for each in withheld] or [each.room.dataset for each in answered]
        if handed := documents.handovers(self.identity, named):
            body["beaconHandovers"] = handed
        if withheld:
            body["info"] = {"withheld": list[Json](withheld)}
        if granularity == "boolean":
            return body
        summary |= {"numTotalResults": total, **_precision([each.counted for each in answered], partial=bool(withheld))}
        if asked.granularity == "count" or asked.include == "NONE":
            return body
        records = self._records(entry, asked, recorded, guest, wanted, person)
        sets: list[Json] = [
            _result_set(each, records.get(each.room.dataset, []))
            for each in answered
            if asked.include == "ALL" or (asked.include == "HIT") == (each.counted.count > 0)
        ]
        return body | {"response": {"resultSets": sets}}

    def _records(
        self,
        entry: EntryType,
        asked: Asked,
        recorded: Sequence[_Answered],
        guest: Guest,
        wanted: Sequence[tuple[Assembly, Span]] | None,
        person: str | None,
    ) -> Mapping[str, list[Json]]:
        """The records of the page, by dataset: pages run through the datasets one after another."""
        out: dict[str, list[Json]] = {}
        first, room_left = asked.first, asked.limit
        criterion: Criterion = filters.criterion(asked.filters, asked.logic)
        for each in recorded:
            there = each.counted.count
            take = max(min(there - first, room_left), 0)
            if take:
                name = each.room.dataset
                if entry is VARIANT:
                    chosen = each.variants[first : first + take]
                    out[name] = [_variant(one, each.room) for one in chosen]
                else:
                    here = None if wanted is None else tuple(s for a, s in wanted if a == each.room.assembly)
                    sought = Sought(name, criterion, here, guest, person)
                    people = self.desk.people(sought, first, take)
                    out[name] = [cast(Json, record(entry.id, one, each.room)) for one in people]
            room_left -= take
            first = max(first - there, 0)
        return out

    def cohorts(self, asked: Asked, only: str | None = None) -> Document:
        """The datasets' people as cohorts: what there is is no secret, and its size is rounded."""
        if asked.filters or asked.of_variants:
            raise Invalid(
                "cohorts are not filtered here.", where=next(filters.ids(asked.filters), "requestParameters")[:60]
            )
        rooms = [room for room in self.desk.rooms() if only in (None, room.dataset)]
        if only is not None and not rooms:
            raise Missing("no cohort has this id here.", where="id")
        page: Document = {"skip": asked.skip, "limit": asked.limit}
        summary: Document = {"exists": bool(rooms)}
        body: Document = {
            "meta": documents.meta(self.identity, asked, COHORT, asked.granularity, page),
            "responseSummary": summary,
        }
        if asked.granularity != "boolean":
            summary["numTotalResults"] = len(rooms)
        if asked.granularity == "record":
            shown = rooms[asked.first : asked.first + asked.limit]
            body["response"] = {"collections": [_cohort(room) for room in shown]}
        return body

    def terms(self, only: str | None = None) -> Document:
        """What can be filtered by. ``Missing`` for a dataset that is not here."""
        rooms = [room for room in self.desk.rooms() if only in (None, room.dataset)]
        if only is not None and not rooms:
            raise Missing("no dataset has this id here.", where="id")
        return {
            "filteringTerms": cast(Json, filters.terms_of(rooms)),
            "resources": cast(Json, list(filters.RESOURCES)),
        }


def _precision(counted: Sequence[Counted], *, partial: bool = False) -> Document:
    """How exact counts are, as Beacon 2.2 declares it: what they were rounded to, or that few became none."""
    few = partial or any(each.few for each in counted)
    steps = sorted({each.step for each in counted if each.step > 1})
    if not steps and not few:
        return {"countPrecision": "exact"}
    adjusted: list[Json] = [0, *steps] if few else [*steps]
    return {"countPrecision": "imprecise" if few else "rounded", "countAdjustedTo": adjusted}


def _result_set(each: _Answered, results: list[Json]) -> Document:
    room, counted = each.room, each.counted
    info: Document = {"node": room.node, "release": room.release, "minimumPeople": room.floor}
    if counted.few:
        info["fewerThan"] = counted.floor
    return {
        "id": room.dataset,
        "setType": "dataset",
        "exists": counted.count > 0,
        "resultsCount": counted.count,
        **_precision([counted]),
        "results": results,
        "info": info,
    }


def _variant(one: Carried, room: Room) -> Json:
    told = variation(one.chromosome, one.position, one.ref, one.alt, room.assembly)
    carriers: Document = {"people": one.people.count} if room.open_data else {"atLeast": one.people.count}
    if attributes := molecular(one.effects):
        told["molecularAttributes"] = attributes
    return cast(Json, told | {"variantLevelData": {}, "info": {"carriers": carriers}})


def _cohort(room: Room) -> Document:
    return {
        "id": room.dataset,
        "name": room.title,
        "cohortType": "beacon-defined",
        "cohortSize": room.people,
        "cohortDataTypes": [
            {"id": "OGMS:0000015", "label": "clinical history"},
            {"id": "OBI:0000070", "label": "genotyping assay"},
        ],
    }


def dataset(room: Room) -> Document:
    """A dataset of which no table is published, as a record."""
    return documents.dataset_of(
        room.dataset,
        room.title,
        f"{room.people:,} people of {room.holder} on {room.assembly}.",
        room.released_on,
        room.permission,
        synthetic=room.synthetic,
        info={
            "node": room.node,
            "assembly": room.assembly,
            "people": room.people,
            "securityLevel": room.tier.upper(),
            "minimumPeople": room.floor,
            "synthetic": room.synthetic,
        },
    )
