"""The application desk of a hub: who sees what, who may do what, who is told, and what is signed when access begins.

    page or API → ``Desk.do`` → the state machine checks → one event in the book → notices, the permit where it opens

What can be applied for, who speaks for which nation, what it costs and where people are written to stands in
``desk.toml``. A nation's acts are open to people of that nation's offices only. The permission is signed with the
authority's key where it lies at this hub (``keys/authority.jwk``); the visas for the same grants with the hub's own
issuer key.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from federome.db import engine
from federome.errors import Invalid, Missing, Refused
from federome.governance.application_course import Calendars, granted, permission_of, ticks
from federome.governance.application_form import Answers, Offer, Read, read_answers
from federome.governance.applications import (
    BY_NAME,
    ENDED,
    Act,
    Application,
    Event,
    Kind,
    Opened,
    allowed,
    check,
)
from federome.governance.calendars import calendar_of
from federome.governance.fees import FeeLine, Fees, statement
from federome.governance.passports import GRANTS
from federome.governance.permits import sign_permit
from federome.model.registry import Person
from federome.model.strict import Country, Document, Identifier
from federome.network.access import REGISTER, Register, read_register
from federome.network.application_book import Also, ApplicationBook, Attached, Audience, Note, Notice
from federome.network.attachments import Vault, scan
from federome.network.entitlements import Entitlements
from federome.network.issuing import Issuer, VisaOf
from federome.network.outbox import MailSettings, Outbox, Send, smtp
from federome.trust.keys import PrivateKey, generate, load_private_key, save_private_key

PREFIX: Final = "/access/v1"
DESK: Final = "desk.toml"
DATABASE: Final = "applications.db"
ISSUER_KEY: Final = "issuer.jwk"
AUTHORITY_KEY: Final = "authority.jwk"
JUDGES: Final = frozenset({"dac-member", "ncp", "administrator", "auditor"})
MAX_NOTES: Final = 500
MAX_FILES: Final = 30
_NATIONAL: Final = frozenset({"agree", "veto", "justify", "inform-subjects", "prepare", "confirm-deletion"})


@dataclass(frozen=True)
class Office(Document):
    """One nation at the desk: its country (for its working days), who speaks for it, who runs its node, its fees."""

    node: Identifier
    country: Country
    coordination: tuple[Identifier, ...] = ()
    operators: tuple[Identifier, ...] = ()
    fees: Fees = field(default_factory=Fees)


@dataclass(frozen=True)
class DeskSettings(Document):
    """``desk.toml``. ``contacts``: where people of the register are written to; who is not named gets no e-mail.

    ``visas_days`` is how long a visa for a grant holds before a new one must be fetched.
    """

    authority: Identifier = "authority"
    offices: tuple[Office, ...] = ()
    offers: tuple[Offer, ...] = ()
    contacts: Mapping[Identifier, str] = field(default_factory=dict)
    visa_days: int = 30
    budget_rho: float | None = None
    mail: MailSettings | None = None

    def office(self, node: str) -> Office | None:
        """The office of a node."""
        return next((office for office in self.offices if office.node == node), None)


def desk_settings(folder: Path) -> DeskSettings:
    """What ``desk.toml`` of a hub's folder says; an empty desk where there is no such file."""
    path = folder / DESK
    if not path.is_file():
        return DeskSettings()
    try:
        return DeskSettings.from_document(tomllib.loads(path.read_text()), where=DESK)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the settings cannot be read: {error}.", where=str(path)) from error


@dataclass
class Desk:
    """One hub's desk. ``authority`` signs permissions; without it, access waits for one that is signed elsewhere."""

    settings: DeskSettings
    book: ApplicationBook
    register: Callable[[], Register]
    clock: Callable[[], float]
    vault: Vault
    issuer: Issuer
    entitlements: Entitlements
    authority: PrivateKey | None = None

    def now(self) -> datetime:
        """The time."""
        return datetime.fromtimestamp(self.clock(), UTC)

    @property
    def calendars(self) -> Calendars:
        """The working days of each node's country, around this year."""
        year = self.now().year
        return {o.node: calendar_of(o.country, year - 1, year + 2) for o in self.settings.offices}

    # reading

    def sees(self, application: Application, person: Person) -> bool:
        """Whether a person has to do with an application at all; to everybody else there is no such thing."""
        if person.id in application.opened.applicants or person.id in _named(application):
            return True
        if "signing-official" in person.roles and person.institution == application.opened.institution:
            return True
        if application.state == "draft" and not any(event.act == "submit" for event in application.events):
            return False
        if {"dac-member", "administrator", "auditor"} & set(person.roles):
            return True
        assessed = any(event.act in ("accept", "recommend") for event in application.events)
        return assessed and bool({"ncp", "node-operator"} & set(person.roles) and self.nodes_of(application, person))

    def find(self, application: str, person: Person) -> Application:
        """An application for somebody who may see it; ``Missing`` otherwise, whichever of the two it is."""
        found = self.book.find(application)
        if not self.sees(found, person):
            raise Missing("there is no such application.")
        return found

    def visible(self, person: Person) -> list[Application]:
        """Every application that somebody may see, the newest first."""
        return [found for found in self.book.all() if self.sees(found, person)]

    def nodes_of(self, application: Application, person: Person) -> tuple[str, ...]:
        """The nodes of an application for which a person may speak."""
        return tuple(node for node in application.nodes if self._speaks(node, person))

    def reads(self, kind: Kind, answers: Answers) -> Read:
        """What a draft says."""
        keys = {person.id: person.key for person in self.register().persons}
        return read_answers(kind, answers, offers=self.settings.offers, keys=keys)

    def fees(self, application: Application) -> tuple[FeeLine, ...]:
        """What the nations would charge."""
        institutions = {one.id: one for one in self.register().institutions}
        own = institutions.get(application.opened.institution)
        schedules = {office.node: office.fees for office in self.settings.offices}
        return statement(application, schedules, public_body=own is not None and own.public_body)

    # acting

    def open(self, kind: Kind, person: Person, *, once: str) -> Application:
        """A new draft of a person's; the same one if the same form is sent twice."""
        if not person.institution or not {"researcher", "clinician"} & set(person.roles):
            raise Refused("researchers and clinicians apply for access.", codes=["not_your_role"])
        now = self.now()
        name = hashlib.sha256(f"{person.id}|{once}".encode()).hexdigest()
        opened = Opened(f"A-{now:%Y%m%d}-{name[:8]}", kind, person.institution, (person.id,), now)
        return self.book.find(self.book.open(opened, name).id)

    def save(self, application: str, person: Person, answers: Answers, *, once: str, seen: int | None) -> Application:
        """Keep a version of a draft. Saving what is there already makes no version."""
        found = self.find(application, person)
        read = self.reads(found.opened.kind, answers)
        if found.content is not None and found.content == read.content:
            return found
        event = self._event("save", person, once, content=read.content)
        return self._append(application, event, person, seen=seen, answers=answers)

    def do(self, application: str, person: Person, act: str, *, once: str, seen: int | None = None,
           **more: object) -> Application:  # fmt: skip
        """Do an act; then whatever follows by itself. ``Refused`` or ``Invalid`` as the state machine says."""
        self.find(application, person)
        self._append(application, self._event(act, person, once, **more), person, seen=seen)
        return self.tick(application)

    def tick(self, application: str) -> Application:
        """Whatever the clock does to an application by now; each in a transaction of its own."""
        now = self.now()
        found = self.book.find(application)
        while events := list(ticks(found, now, self.calendars)):
            for event in events:
                found = self._append(application, event, None)
        return found

    def tick_all(self) -> int:
        """The same for every application that is under way; how many events that made."""
        made = 0
        for found in self.book.all(without=("draft", *ENDED)):
            made += len(self.tick(found.opened.id).events) - len(found.events)
        return made

    def comment(self, application: str, person: Person, text: str, *, once: str, audience: Audience) -> None:
        """Leave a comment. Judges may leave one that only judges see."""
        found = self.find(application, person)
        if not text.strip():
            raise Invalid("the comment is empty.", where="comment")
        if audience == "judges" and not self.judges(found, person):
            raise Refused("only those who judge leave such comments.", codes=["not_your_role"])
        if len(self.book.comments(application)) >= MAX_NOTES:
            raise Invalid("this application has very many comments.", remedy="Put what is left into one attachment.")
        note = Note(_id(person.id, once), person.id, self.now(), audience, text.strip()[:10_000])
        self.book.comment(application, note)

    def comments(self, application: Application, person: Person) -> list[Note]:
        """The comments that a person may read."""
        judge = self.judges(application, person)
        return [note for note in self.book.comments(application.opened.id) if judge or note.audience == "everybody"]

    def judges(self, application: Application, person: Person) -> bool:
        """Whether somebody is among those who judge this application, and not among those it is about."""
        own = person.id in application.opened.applicants or person.id in _named(application)
        return bool(JUDGES & set(person.roles)) and not own

    def attach(self, application: str, person: Person, name: str, data: bytes, *, once: str) -> Attached:
        """Keep an attachment of the applicant's, or of those who judge."""
        found = self.find(application, person)
        if found.state in ENDED:
            raise Refused("this application has ended.", codes=["wrong_state"])
        if len(self.book.attachments(application)) >= MAX_FILES:
            raise Invalid("this application has very many attachments.", where="attachment")
        safe, media = scan(name, data)
        told = Attached(_id(person.id, once), person.id, self.now(), safe, media, len(data))
        self.book.attach(application, told, self.vault.seal(application, told.id, data))
        return told

    def attachment(self, application: str, person: Person, file: str) -> tuple[Attached, bytes]:
        """An attachment, opened."""
        self.find(application, person)
        told, sealed = self.book.attachment(application, file)
        return told, self.vault.open(application, file, sealed)

    def offered(self, application: Application, person: Person) -> tuple[Act, ...]:
        """What somebody could do next, without the acts of nations for which they do not speak."""
        nodes = self.nodes_of(application, person)
        own = person.institution == application.opened.institution
        return tuple(
            act
            for act in allowed(application, person)
            if (act.name not in _NATIONAL or nodes)
            and (act.name != "sign" or nodes or (own and "signing-official" in person.roles))
        )

    # what access is shown with

    def permit(self, application: str, person: Person) -> str:
        """The newest signed permission, for those whom it names and their institution's official."""
        found = self.find(application, person)
        held = self.book.permits(application)
        if not held or found.state not in ("active", "suspended", "closing"):
            raise Missing("no permission was signed for this application yet.")
        return held[-1]

    def passport(self, person: Person) -> str:
        """A passport of this hub's with a visa for all that an active permit, or an entitlement, gives somebody now."""
        now = self.now()
        visas = []
        for found in self.book.all(without=("draft", *ENDED)):
            if found.state == "active" and person.id in _named(found):
                allowed = {grant.dataset for grant in granted(found, now, self.calendars)}
                values = [offer.grant or offer.id for offer in self.settings.offers if offer.id in allowed]
                visas += [self._visa(person.id, value) for value in values]
        visas += [self._visa(person.id, value) for value in self.entitlements.of(person.id, now)]
        return self.issuer.passport(person.id, visas, now=now.timestamp())

    def _visa(self, person: str, value: str) -> str:
        visa = VisaOf(GRANTS, value, "dac")
        return self.issuer.visa(person, visa, now=self.clock(), life_s=self.settings.visa_days * 86_400)

    # within

    def _event(self, act: str, person: Person, once: str, **more: object) -> Event:
        told = {name: value for name, value in more.items() if value is not None}
        return Event(_id(person.id, once), act, person.id, self.now(), **told)  # type: ignore[arg-type]

    def _append(
        self,
        application: str,
        event: Event,
        actor: Person | None,
        *,
        seen: int | None = None,
        answers: Answers | None = None,
    ) -> Application:
        def checked(now: Application) -> Callable[[Application], Also]:
            check(now, event, actor)
            if actor is not None:
                self._national(now, event, actor)

            def belongs(after: Application) -> Also:
                notices = self._notices(after, event)
                mailed = frozenset(n.person for n in notices if n.person in self.settings.contacts)
                return Also(notices, answers, self._signed(after, event), mailed)

            return belongs

        return self.book.append(application, event, checked, seen=seen)

    def _national(self, application: Application, event: Event, actor: Person) -> None:
        """A nation's acts are its own people's."""
        if event.act in _NATIONAL or (event.act == "sign" and event.node is not None):
            if not self._speaks(event.node or "", actor):
                raise Refused("this person speaks for no office of that nation.", codes=["not_your_role"])
        elif event.act == "sign" and actor.institution != application.opened.institution:
            raise Refused("only the applicant's institution signs for itself.", codes=["not_your_role"])

    def _speaks(self, node: str, person: Person) -> bool:
        office = self.settings.office(node)
        if office is None:
            return False
        return ("ncp" in person.roles and person.institution in office.coordination) or (
            "node-operator" in person.roles and person.institution in office.operators
        )

    def _signed(self, after: Application, event: Event) -> str:
        """The permission, signed, where this event opened or extended access (a short way opens with other acts)."""
        opens = event.act in ("open", "extend", "seal", "settle") and after.state == "active"
        if not opens or self.authority is None:
            return ""
        permission = permission_of(
            after, event.at, self.calendars, authority=self.settings.authority, budget_rho=self.settings.budget_rho
        )
        return sign_permit(permission, self.authority, issued=event.at)

    def _notices(self, after: Application, event: Event) -> tuple[Notice, ...]:
        people = [p for p in self.register().persons if p.id != event.actor and self._told(after, event, p)]
        says = BY_NAME[event.act].says
        return tuple(Notice(f"{event.id}/{p.id}", p.id, after.opened.id, event.at, says) for p in people)

    def _told(self, after: Application, event: Event, person: Person) -> bool:
        """Whether a person is told of an event: whoever has the next step, and whom it is about."""
        if not self.sees(after, person):
            return False
        about = person.id in after.opened.applicants or person.id in _named(after)
        roles = set(person.roles)
        national = bool(self.nodes_of(after, person)) and (event.node is None or self._speaks(event.node, person))
        match event.act:
            case "save":
                return False
            case "submit" | "appeal" | "report-breach":
                return "administrator" in roles
            case "accept" | "overturn" | "ask-extension":
                return "dac-member" in roles or about
            case "recommend" | "remind":
                return national and "ncp" in roles
            case "veto" | "justify":
                return "dac-member" in roles or about
            case "settle":
                return about or "signing-official" in roles or (national and "ncp" in roles)
            case "seal" | "close" | "expire" | "suspend" | "blacklist":
                return about or national
            case _:
                return about


def _named(application: Application) -> set[str]:
    return {person.id for person in application.content.persons} if application.content else set()


def _id(person: str, once: str) -> str:
    """The id of what a form does: the same for the same form of the same person."""
    if not once:
        raise Invalid("this form has no number of its own.", remedy="Reload the page, then send it again.")
    return f"e-{hashlib.sha256(f'{person}|{once}'.encode()).hexdigest()[:32]}"


def parties(application: Application, nodes: Sequence[str]) -> tuple[str, ...]:
    """Who still has to sign the agreement."""
    signed = {event.node or application.opened.institution for event in application.of("sign")}
    return tuple(each for each in (application.opened.institution, *nodes) if each not in signed)


class RegisterFile:
    """The register of accredited people in a hub's folder, read again when it changes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / REGISTER
        self._stamp, self._held = 0, Register()

    def read(self) -> Register:
        """The register now; an empty one where there is no file."""
        stamp = self._path.stat().st_mtime_ns if self._path.is_file() else 0
        if stamp != self._stamp:
            self._held, self._stamp = read_register(self._path.read_text()) if stamp else Register(), stamp
        return self._held


def open_desk(folder: Path, *, url: str, clock: Callable[[], float]) -> Desk:
    """The desk of a hub's folder. Its keys are made the first time; the authority's is there or is not."""
    keys = folder / "keys"
    own = keys / ISSUER_KEY
    if not own.is_file():
        save_private_key(generate("ES256"), own)
    authority = keys / AUTHORITY_KEY
    database = engine(f"sqlite:///{folder / DATABASE}", durable=True)
    return Desk(
        settings=desk_settings(folder),
        book=ApplicationBook(database),
        register=RegisterFile(folder).read,
        clock=clock,
        vault=Vault(keys),
        issuer=Issuer(f"{url.rstrip('/')}{PREFIX}", load_private_key(own)),
        entitlements=Entitlements(database),
        authority=load_private_key(authority) if authority.is_file() else None,
    )


def outbox_of(desk: Desk, *, url: str, send: Send | None = None) -> Outbox:
    """The outbox of a desk; without a mail server, notices stay in the product."""
    mail = desk.settings.mail
    if mail is None:
        return Outbox(desk.book, {}, "nobody@localhost", url, send or _nobody)
    return Outbox(desk.book, desk.settings.contacts, mail.sender, url, send or smtp(mail))


def _nobody(_message: object) -> None:
    """Sends nothing: no contact is known without a mail server."""
