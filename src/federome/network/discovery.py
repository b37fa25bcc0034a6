"""The node's desk for questions about how many people there are: the only thing a Beacon may ask about people.

Faces never see a person. They hand the desk a question (``model/discovery.py``) and get a number that has passed the
door: consent now, the tier of the dataset, floors on both tails, rounding drawn once, an audit against everything told
before, and the risk meter. Only of open data are people told of one by one.
"""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np

from federome.db import engine
from federome.disclosure import risk
from federome.disclosure.budgets import Charge
from federome.disclosure.cohorts import FileCohorts
from federome.disclosure.counted import tell
from federome.disclosure.differencing import Members
from federome.disclosure.told import Told
from federome.errors import Invalid, Missing, Refused
from federome.model.discovery import (
    COLUMNS,
    NEEDS,
    Carried,
    Counted,
    Guest,
    Kind,
    Person,
    Room,
    Sought,
    Term,
    Tier,
)
from federome.model.release import Policy
from federome.model.strict import Document
from federome.model.table import Mask
from federome.model.wording import Wording, sought_words
from federome.network.census import Ancestry, Census
from federome.network.consents import node_consents
from federome.network.files import replace_file
from federome.network.holdings import StoreHoldings, open_holdings
from federome.network.question import Use
from federome.network.setup import node_settings
from federome.network.spending import SqlBudgets
from federome.trust.keys import read_secret

OPENED: Final = "discovery.json"
MOST_VARIANTS: Final = 1_000
"""Variants of closed data that one question may be told of one by one."""
_USE: Final = Use("match", "statistics")  # the tier "subject-query" covers being counted for a question about people
_KEPT: Final = 4_096
RECHECK_S: Final = 60.0
"""Consent can end by the clock: so often it is read anew even if nobody has told of a change."""


class Desk(Protocol):
    """What a face asks. The node's own is ``NodeDesk``; ``discovery_wire.py`` reaches it in another process."""

    def rooms(self) -> tuple[Room, ...]:
        """The datasets whose people may be counted."""

    def count(self, sought: Sought) -> Counted:
        """How many people."""

    def people(self, sought: Sought, first: int, limit: int) -> tuple[Person, ...]:
        """The people themselves, of open data; ``Refused`` for any other."""

    def variants(self, sought: Sought) -> tuple[Carried, ...]:
        """The variants of the question's spans that enough of the people carry, in genome order."""


@dataclass(frozen=True)
class Opened(Document):
    """A dataset whose people may be counted, and by whom."""

    dataset: str
    tier: Tier = "registered"


@dataclass
class _Hall:
    """One dataset as it stands now."""

    room: Room
    policy: Policy
    census: Census
    numbers: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    within: Mask  # whose consent covers it
    names: Callable[[], list[str]]
    ledger: object  # the consent ledger that `within` was read from, and when
    checked: float
    version: int | None  # of the store's catalogue
    told: Told
    constants: Mapping[str, object]  # what is declared to be equal for everybody
    admitted: bool = False

    def members(self, mask: Mask) -> Members:
        """A set of people by their lasting numbers."""
        bits = np.zeros(self._last + 1, np.bool_)
        bits[self._places] = mask
        return Members.of(bits)

    @cached_property
    def _places(self) -> slice | np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Where people's bits are: one stretch if their numbers are, which is copied at once."""
        one_stretch = len(self.numbers) > 0 and bool(np.all(np.diff(self.numbers) == 1))
        return slice(int(self.numbers[0]), int(self.numbers[-1]) + 1) if one_stretch else self.numbers

    @cached_property
    def _last(self) -> int:
        return int(self.numbers.max(initial=0))

    @cached_property
    def everybody(self) -> Members:
        """All who may be counted."""
        return self.members(self.within)


@dataclass(frozen=True)
class _Worth:
    """How many numbers an answer has, and ρ of them."""

    sites: int
    rho: float


class NodeDesk:
    """See :class:`Desk`. ``opened`` says which datasets, now; ``told`` opens the record of what was told of one."""

    def __init__(
        self,
        holdings: StoreHoldings,
        *,
        node: str,
        opened: Callable[[], Sequence[Opened]],
        secret: bytes,
        told: Callable[[str], Told],
        ontology: Ancestry | None = None,
    ) -> None:
        self._holdings, self._node, self._opened, self._secret = holdings, node, opened, secret
        self._told, self._ontology = lru_cache(None)(told), ontology
        self._lock = threading.RLock()
        self._written = holdings.store.written
        self._halls: dict[str, _Hall] = {}
        self._answers: OrderedDict[tuple[str, Sought], Counted] = OrderedDict()

    def rooms(self) -> tuple[Room, ...]:
        """See :class:`Desk`."""
        return tuple(self._hall(each.dataset).room for each in self._opened())

    def count(self, sought: Sought) -> Counted:
        """See :class:`Desk`."""
        hall = self._enter(sought)
        key = (hall.room.release, sought)
        with self._lock:
            if key in self._answers:
                return self._answers[key]
        told = self._counted(hall, sought)
        with self._lock:
            self._answers[key] = told
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return told

    def people(self, sought: Sought, first: int, limit: int) -> tuple[Person, ...]:
        """See :class:`Desk`."""
        hall = self._enter(sought)
        if not hall.policy.open_data:
            raise Refused("nobody is told of one by one here.", codes=["small_cell"], where=sought.dataset)
        rows = np.flatnonzero(self._meant(hall, sought, self._meets(hall, sought)))[first : first + limit].tolist()
        names = hall.names()
        return tuple(Person(names[row], _values(hall.census, row)) for row in rows)

    def variants(self, sought: Sought) -> tuple[Carried, ...]:
        """See :class:`Desk`."""
        hall = self._enter(sought)
        if sought.spans is None:
            raise Invalid("a question about variants says where.", where="start")
        among = self._meant(hall, msgspec.structs.replace(sought, spans=None), self._meets(hall, sought))
        most = 10**7 if hall.policy.open_data else MOST_VARIANTS
        carried = hall.census.variants(sought.spans, among, most=most)
        floor = max(hall.policy.threshold, 1)
        seen = {key: people for key, people in carried.items() if people >= floor}
        if not hall.policy.open_data:
            meant = hall.members(among)
            if meant.size < floor:
                return ()
            self._record(
                hall,
                msgspec.structs.replace(sought, spans=None),
                meant,
                worth=self._worth(hall, sought, meant.size, sites=len(carried)),
            )
        does = hall.census.view.effects(seen)
        return tuple(Carried(*key, _told_of(people, hall.policy), does.get(key, ())) for key, people in seen.items())

    # inside

    def _counted(self, hall: _Hall, sought: Sought) -> Counted:
        meets = self._meets(hall, sought)
        meant = self._meant(hall, sought, meets)
        if hall.policy.open_data:
            return Counted(int(np.count_nonzero(meant)))
        some = hall.members(meant)
        told = tell(some, hall.everybody, hall.policy, secret=self._secret)
        worth = self._worth(hall, sought, int(np.count_nonzero(meets)), sites=1)
        self._record(hall, sought, some, worth=worth, told=not told.few)
        return told

    def _meets(self, hall: _Hall, sought: Sought) -> Mask:
        """Who meets the criterion, whatever they carry, shape (people,)."""
        return hall.census.met(sought.criterion) & hall.within

    def _meant(self, hall: _Hall, sought: Sought, meets: Mask) -> Mask:
        """Who the question is about, shape (people,)."""
        meant = meets
        if sought.spans is not None:
            meant = meant & hall.census.carrying(sought.spans)
        if sought.person is not None:
            names = hall.names() if hall.policy.open_data else []
            only = np.zeros(hall.census.people, np.bool_)
            if sought.person in names:
                only[names.index(sought.person)] = True
            meant = meant & only
            if not meant.any():
                raise Missing("nobody who may be told of has this id here.", where="id")
        return meant

    def _record(self, hall: _Hall, sought: Sought, some: Members, *, worth: _Worth, told: bool = True) -> None:
        """Put on record that an answer about some people is given, before it is: charge its account and, if their
        number is told, admit them to the audit, so that nobody learns of the few between two groups that are told of.
        """
        charge, answer = self._charge(hall, sought, some if told else None, worth)
        about: dict[Wording, Members] = {}
        if told and not hall.admitted:
            about[Wording((sought.dataset,))] = hall.everybody
        if told:
            about.setdefault(sought_words(sought, hall.constants), some)
        hall.told.tell(answer, charge, about, secret=self._secret, policy=hall.policy)
        hall.admitted |= told

    def _charge(self, hall: _Hall, sought: Sought, some: Members | None, worth: _Worth) -> tuple[Charge, bytes]:
        """What is drawn from the asker's account, and its name: the same answer at the same price costs once.

        An answer is known by the people it is about. Where they are too few to be told of it is known by its question:
        else one that names nobody would be free after the first such, and by time and account tell from one of a few.
        """
        policy, release = hall.policy, hall.room.release
        account = f"people:{sought.guest.account}:{release}"
        meant = msgspec.structs.replace(sought, guest=Guest()) if some is None else some.digest
        asked = msgspec.json.encode([account, meant, worth.sites, f"{worth.rho:.12g}"], order="deterministic")
        answer = hmac.digest(self._secret, asked, "sha256")
        return Charge(account, worth.rho, risk.rho_at(policy.membership_power)), answer

    def _worth(self, hall: _Hall, sought: Sought, meets: int, *, sites: int) -> _Worth:
        """ρ of the answer: one number each site, about the people who meet the criterion."""
        floor = hall.policy.threshold
        people = max(meets, floor, 1)
        rare = 0
        if sought.spans is not None and sites:
            carriers = hall.census.carrying(sought.spans) & hall.within if sites == 1 else np.zeros(0, np.bool_)
            everywhere = int(np.count_nonzero(carriers))
            share = everywhere * people / max(hall.everybody.size, 1)
            rare = sites if everywhere < floor or share < 2 * risk.RARE else 0
        common = (sites - rare) / people
        # Such a price hardly depends on the number of people: the next lower power of two is dear enough.
        return _Worth(sites, common + (rare * _dear(1 << people.bit_length() - 1, floor) if rare else 0.0))

    def _enter(self, sought: Sought) -> _Hall:
        hall = self._hall(sought.dataset)
        if not sought.guest.may(hall.room.tier, sought.dataset):
            raise Refused(
                f"people of this dataset are counted for {_WHOM[hall.room.tier]} only.",
                codes=["missing_grant" if hall.room.tier == "controlled" else "missing_registered_access"],
                where=sought.dataset,
                remedy="Send a passport: Authorization: Bearer …",
            )
        return hall

    def _hall(self, dataset: str) -> _Hall:
        opened = {each.dataset: each.tier for each in self._opened()}
        if dataset not in opened:
            raise Missing("the people of no such dataset are counted here.", where="datasetIds")
        with self._lock:
            held = self._halls.get(dataset)
            if held is None or not self._stands(held, opened[dataset]):
                held = self._halls[dataset] = self._open(dataset, opened[dataset])
                self._answers.clear()
            return held

    def _stands(self, hall: _Hall, tier: Tier) -> bool:
        """Whether nothing has changed about a dataset's people: who is in it, who agrees, who may ask."""
        version = self._written.version()
        if version is None or version != hall.version:
            hall.version = version
            release = self._holdings.store.release(hall.room.dataset)
            if self._holdings.store.active_digest(release) != hall.room.release:
                return False
        ledger, now = self._holdings.consents(), self._holdings.clock()
        if ledger is not hall.ledger or now - hall.checked > RECHECK_S:
            hall.ledger, hall.checked = ledger, now
            within = self._holdings.may(hall.census.view, _USE)  # type: ignore[arg-type]  # a StudyView
            return np.array_equal(within, hall.within) and hall.room.tier == tier
        return hall.room.tier == tier

    def _open(self, dataset: str, tier: Tier) -> _Hall:
        ledger, now, version = self._holdings.consents(), self._holdings.clock(), self._written.version()
        release, view = self._holdings.everybody(dataset)
        manifest = release.manifest
        policy = manifest.policy.public()
        kinds = {
            name: kind
            for name, kind in COLUMNS.items()
            if name in view.columns or view.columns.issuperset(NEEDS.get(name, (name,)))
        }
        census = Census(view, kinds, self._ontology)
        within = self._holdings.may(view, _USE)
        people = int(within.sum())
        step = 1 if policy.open_data else 5
        room = Room(
            dataset=dataset,
            node=self._node,
            title=manifest.title,
            holder=manifest.holder,
            assembly=manifest.assembly,
            release=self._holdings.store.active_digest(release),
            released_on=release.released_on.isoformat(),
            tier=tier,
            people=(people + step // 2) // step * step if people >= policy.threshold else 0,
            floor=policy.threshold,
            open_data=policy.open_data,
            synthetic=manifest.synthetic,
            permission=str(manifest.data_use.get("permission", "")),
            columns=dict(kinds),
            terms=_terms(census, within, policy),
            genes=self._holdings.genes(release),
        )
        names = lru_cache(1)(lambda: self._holdings.names(view))
        return _Hall(
            room,
            policy,
            census,
            view.numbers_at_node,
            within,
            names,
            ledger,
            now,
            version,
            self._told(dataset),
            self._holdings.alike(dataset),
        )


_WHOM: Final[Mapping[Tier, str]] = {
    "public": "everybody",
    "registered": "registered researchers",
    "controlled": "holders of a grant",
}


def _terms(census: Census, within: Mask, policy: Policy) -> tuple[Term, ...]:
    return tuple(Term(id, column) for id, column in sorted(census.terms(within, policy.threshold)))


@lru_cache(4_096)
def _dear(people: int, floor: int) -> float:
    """ρ of a site of which nothing public is known, among about so many people."""
    return risk.worst_rare_price(max(people, floor, 1), at_least=floor, counted=True)


def _told_of(people: int, policy: Policy) -> Counted:
    """Carriers of one variant: of closed data only that there are enough."""
    if policy.open_data:
        return Counted(people)
    return Counted(policy.threshold, policy.threshold, policy.threshold)


def _values(census: Census, row: int) -> dict[str, str | float | list[str]]:
    """What is known of one person of an open dataset."""
    values: dict[str, str | float | list[str]] = {}
    for column, kind in census.kinds.items():
        found = _value(census, column, kind, row)
        if found not in ("", None):
            values[column] = found
    return values


def _value(census: Census, column: str, kind: Kind, row: int) -> str | float | list[str] | None:
    match kind:
        case "number":
            return census.numbers(column).number_of(row)
        case "text":
            words = census.words(column)
            return words.words[int(words.at[row])]
        case "codes":
            return census.codes_of(column, row)


def open_desk(
    folder: Path,
    *,
    clock: Callable[[], float],
    ontology: Ancestry | None = None,
    holdings: StoreHoldings | None = None,
) -> NodeDesk:
    """The desk of a node's folder, and of its ``holdings`` if open already. What it tells of a dataset is kept in
    ``discovery/DATASET.audit``.
    """
    told, earlier = folder / "discovery", folder / "discovery.db"
    told.mkdir(mode=0o700, exist_ok=True)
    # Accounts were once kept in a database: what it holds was spent.
    before = SqlBudgets(engine(f"sqlite:///{earlier}"), clock).accounts() if earlier.is_file() else {}
    return NodeDesk(
        holdings or open_holdings(folder, node_consents(folder), clock),
        node=node_settings(folder).name,
        opened=lambda: read_opened(folder),
        secret=read_secret(folder / "keys" / "secret"),
        told=lambda dataset: Told(partial(FileCohorts, told / f"{dataset}.audit"), before),
        ontology=ontology,
    )


def read_opened(folder: Path) -> tuple[Opened, ...]:
    """The datasets whose people a node lets be counted; none where nobody said so."""
    path = folder / OPENED
    if not path.is_file():
        return ()
    return tuple(Opened.from_document(each, where=OPENED) for each in msgspec.json.decode(path.read_bytes()))


def set_opened(folder: Path, dataset: str, tier: Tier | None) -> tuple[Opened, ...]:
    """Let people of a dataset be counted from now on, or no longer (``None``). A running desk follows at once."""
    kept = [each for each in read_opened(folder) if each.dataset != dataset]
    if tier is not None:
        kept.append(Opened(dataset, tier))
    replace_file(folder / OPENED, msgspec.json.encode([each.to_document() for each in kept]))
    return tuple(kept)
