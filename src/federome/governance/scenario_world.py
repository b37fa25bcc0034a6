"""The world of a scenario file made real: keys, key sets, signed visas, permits and orders, and each node's state.

``scenarios.py`` drives the decision code with what is made here. Keys and signatures are real; the clock and the
network are not: key sets are served from memory, and every address that is asked for is remembered.
The format is described in ``docs/reference/access-files.md``.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Final, TypeAlias, TypeVar

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from federome.errors import Invalid, Unavailable
from federome.governance.case import LocalRefusal, NodePolicy, State
from federome.governance.clocks import Calendar, Process
from federome.governance.consent import Consent, ConsentEvent, Ledger, NationalOverride
from federome.governance.evidence import Anchors
from federome.governance.jwks import KeyCache
from federome.governance.passports import PASSPORT_TYPE
from federome.governance.permits import Grant, sign_permit
from federome.model.ontology import Ontologies, Ontology, Terms, compile_terms
from federome.model.permit import HealthcareContract, HealthDataRequest, Permit, PersonKey
from federome.model.registry import AlgorithmApproval, Dataset, Identity, Institution, Person
from federome.model.strict import Document, Identifier, Term, read
from federome.trust.canonical import JsonValue, canonical
from federome.trust.keys import KeyRing, PinnedKey, PrivateKey, PublicKey, generate

Raw: TypeAlias = Mapping[str, object]
D = TypeVar("D", bound=Document)

COLLECTIONS: Final = (
    "issuers",
    "authorities",
    "institutions",
    "persons",
    "visas",
    "datasets",
    "algorithms",
    "permits",
    "requests",
    "contracts",
    "subjects",
    "processes",
    "overrides",
    "ontologies",
)
SINGLES: Final = (
    "clock",
    "policy",
    "visa_defaults",
    "holidays",
    "suspended",
    "refusals",
    "consent",
    "ontology",
    "revocations_at",
)
_OFFSET: Final = re.compile(r"([+-])(\d{1,6})([dhms])")
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


@dataclass(frozen=True)
class IssuerSpec(Document):
    """An issuer of passports and visas: its key set is served at ``jku``; nodes trust it as ``policy`` says."""

    jku: Identifier
    algorithm: Identifier = "ES256"


@dataclass(frozen=True)
class VisaSpec(Document):
    """One visa to be signed. Times are instants or offsets from the scenario's clock, such as ``-10d``.

    ``signed_by`` (default ``iss``), ``jku`` and ``alg`` (also ``none`` and ``HS256``) serve to make bad ones;
    ``broken`` flips a bit of the signature.
    """

    person: Identifier
    iss: Identifier
    sub: Identifier
    type: Identifier
    value: str
    source: Identifier
    by: Identifier | None = None
    asserted: str = "-10d"
    issued: str = "-30m"
    expires: str = "+30d"
    conditions: tuple[tuple[Mapping[str, str], ...], ...] = ()
    access_token: bool = False
    alg: Identifier | None = None
    jku: Identifier | None = None
    signed_by: Identifier | None = None
    audience: Identifier | None = None
    broken: bool = False


@dataclass(frozen=True)
class SubjectSpec(Document):
    """A data subject (or ``count`` of them, numbered from 1) of one node, with the consent tier given."""

    node: Identifier
    tier: Consent = "secondary-use"
    count: int | None = None


@dataclass(frozen=True)
class TermSpec(Document):
    """One term of an ontology in a file."""

    name: str = ""
    parents: tuple[Term, ...] = ()
    obsolete: bool = False
    replaced_by: tuple[Term, ...] = ()


@dataclass
class Keychain:
    """Real keys, made once per run and name: people, authorities and issuers."""

    _keys: dict[tuple[str, str], PrivateKey] = field(default_factory=dict, repr=False)

    def key(self, name: str, algorithm: str = "ES256") -> PrivateKey:
        """The key pair of this name."""
        if (name, algorithm) not in self._keys:
            if algorithm == "RS256":
                material = RSAKey.generate_key(2048, private=True)
                public = PublicKey.from_jwk({k: str(v) for k, v in material.as_dict(private=False).items()})
                self._keys[(name, algorithm)] = PrivateKey(public, material)
            else:
                self._keys[(name, algorithm)] = generate("ES256")
        return self._keys[(name, algorithm)]


@dataclass(frozen=True, eq=False)
class World:
    """One state of the fixture world, as merged from the files, at one instant. ``fetched`` remembers addresses."""

    raw: Raw
    now: datetime
    keys: Keychain
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        unknown = set(self.raw) - {*COLLECTIONS, *SINGLES}
        if unknown:
            raise Invalid(f"unknown table(s): {', '.join(sorted(unknown))}.", where="world")

    # --- the register -----------------------------------------------------------------------------------------

    @cached_property
    def policy(self) -> NodePolicy:
        """What every node demands."""
        return NodePolicy.from_document(self.raw.get("policy", {}), where="policy")

    @cached_property
    def persons(self) -> dict[str, Person]:
        """The accredited people, each with a real key."""
        return {
            name: self._read(Person, "persons", name, {"key": self._person_key(name).to_document()})
            for name in self._table("persons")
        }

    @cached_property
    def approvals(self) -> tuple[AlgorithmApproval, ...]:
        """The approvals; ``name@version`` is their key, and a digest is made up where none is written."""
        return tuple(self._approval(name) for name in sorted(self._table("algorithms")))

    @cached_property
    def grants(self) -> dict[str, Grant]:
        """Permits, health data requests and contracts by id."""
        found: dict[str, Grant] = {}
        for name in self._table("permits"):
            found[name] = self._read(Permit, "permits", name, self._permit_extras("permits", name))
        for name in self._table("requests"):
            extras = self._permit_extras("requests", name)
            found[name] = self._read(HealthDataRequest, "requests", name, extras)
        for name in self._table("contracts"):
            extras = {"algorithms": _algorithms(self._table("contracts")[name])}
            found[name] = self._read(HealthcareContract, "contracts", name, extras)
        return found

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """All datasets of all nodes."""
        return {name: self._read(Dataset, "datasets", name) for name in self._table("datasets")}

    @cached_property
    def ledger(self) -> Ledger:
        """The consent of all subjects: a tier for each, and the events of the file."""
        events = [
            ConsentEvent(subject, "tier", datetime(2020, 1, 1, tzinfo=UTC), spec.tier)
            for subject, spec in self._subject_specs().items()
        ]
        told = self.raw.get("consent", [])
        if not isinstance(told, list):
            raise Invalid("a list of consent events belongs here.", where="consent")
        events += [ConsentEvent.from_document(event, where=f"consent[{n}]") for n, event in enumerate(told)]
        overrides = tuple(
            self._read(NationalOverride, "overrides", name, key="reference") for name in self._table("overrides")
        )
        return Ledger(tuple(events), "none", overrides)

    def subjects(self, node: str) -> list[str]:
        """The data subjects of a node, in a fixed order."""
        return sorted(name for name, spec in self._subject_specs().items() if spec.node == node)

    @cached_property
    def calendar(self) -> Calendar:
        """The working days."""
        return Calendar.from_document({"holidays": self.raw.get("holidays", [])}, where="holidays")

    @cached_property
    def processes(self) -> dict[str, Process]:
        """The course of each application, by the permit it leads to."""
        return {name: self._read(Process, "processes", name, key="permit") for name in self._table("processes")}

    def state(self, node: str, *, everywhere: bool = False) -> State:
        """What ``node`` knows: the register, and its own datasets (``everywhere``: those of all nodes)."""
        return State(
            node=node,
            ontology=self._ontology(str(self.raw.get("ontology", "")) or None),
            policy=self.policy,
            datasets={n: d for n, d in self.datasets.items() if everywhere or d.node == node},
            persons=self.persons,
            institutions={name: self._read(Institution, "institutions", name) for name in self._table("institutions")},
            approvals=self.approvals,
            ontologies={name: self._ontology(name) for name in self._table("ontologies")},
            suspended=frozenset(str(name) for name in _sequence(self.raw.get("suspended", []))),
            refusals=self._refusals(node),
            processes=self.processes,
            calendar=self.calendar,
            revocations_at=moment(told, self.now) if (told := self.raw.get("revocations_at")) else None,
        )

    # --- signed documents -------------------------------------------------------------------------------------

    def anchors(self) -> Anchors:
        """What nodes pin: the authorities' keys, and the key sets of issuers, served from memory."""
        ring = KeyRing(tuple(PinnedKey(name, self._authority_key(name).public) for name in self._table("authorities")))
        return Anchors(ring, KeyCache(self._fetch))

    def permit_token(self, name: str) -> str:
        """The signed permit, request or contract."""
        grant = self.grants[name]
        return sign_permit(grant, self._authority_key(grant.authority), issued=self.now - timedelta(days=1))

    def passport(self, person: str, *, visas: Sequence[str] | None = None) -> tuple[Identity, str, tuple[str, ...]]:
        """A person's passport: the holder, the broker's token, and the visa tokens in it."""
        identities = self.persons[person].identities if person in self.persons else ()
        if not identities:
            raise Invalid("this person has no identity at a broker.", where=f"persons.{person}.identities")
        holder = identities[0]
        tokens = tuple(self.visa_token(name) for name in (self.visa_names(person) if visas is None else visas))
        claims: dict[str, JsonValue] = {
            "iss": holder.iss,
            "sub": holder.sub,
            "iat": _seconds(self.now - timedelta(minutes=5)),
            "exp": _seconds(self.now + timedelta(hours=8)),
            "jti": f"passport-{person}",
            "ga4gh_passport_v1": list(tokens),
        }
        issuer = self._read(IssuerSpec, "issuers", holder.iss, key=None)
        key = self.keys.key(holder.iss, issuer.algorithm)
        return holder, compact({"alg": issuer.algorithm, "typ": PASSPORT_TYPE, "kid": key.kid}, claims, key), tokens

    def visa_names(self, person: str) -> list[str]:
        """The visas a person holds by default."""
        return [name for name, raw in self._table("visas").items() if raw.get("person") == person]

    def visa_token(self, name: str) -> str:
        """One visa, signed as its table says (also wrongly, where it says so)."""
        raw = dict(_mapping(self.raw.get("visa_defaults", {}), "visa_defaults")) | dict(self._table("visas")[name])
        spec = VisaSpec.from_document(raw, where=f"visas.{name}")
        issuer = self._read(IssuerSpec, "issuers", spec.iss, key=None)
        key = self.keys.key(spec.signed_by or spec.iss, issuer.algorithm)
        visa: dict[str, JsonValue] = {
            "type": spec.type,
            "asserted": _seconds(moment(spec.asserted, self.now)),
            "value": spec.value,
            "source": spec.source,
        }
        if spec.by is not None:
            visa["by"] = spec.by
        if spec.conditions:
            visa["conditions"] = [[dict(clause) for clause in clauses] for clauses in spec.conditions]
        claims: dict[str, JsonValue] = {
            "iss": spec.iss,
            "sub": spec.sub,
            "jti": name,
            "iat": _seconds(moment(spec.issued, self.now)),
            "exp": _seconds(moment(spec.expires, self.now)),
            "ga4gh_visa_v1": visa,
        }
        header = {"alg": spec.alg or issuer.algorithm, "typ": "vnd.ga4gh.visa+jwt", "kid": key.kid}
        if spec.access_token:
            claims["scope"] = "openid"
        else:
            header["jku"] = spec.jku or issuer.jku
        if spec.audience is not None:
            claims["aud"] = spec.audience
        token = compact(header, claims, key)
        return _broken(token) if spec.broken else token

    def person_key(self, person: str) -> PrivateKey:
        """The key a person signs orders with; strangers have one too."""
        return self.keys.key(f"person:{person}")

    # --- inside -----------------------------------------------------------------------------------------------

    def _fetch(self, url: str) -> Mapping[str, JsonValue]:
        self.fetched.append(url)
        keys: list[JsonValue] = []
        for name in self._table("issuers"):
            spec = self._read(IssuerSpec, "issuers", name, key=None)
            if spec.jku == url:
                keys.append(self.keys.key(name, spec.algorithm).public.jwk())
        if not keys:
            raise Unavailable("nothing is served at this address.", where=url)
        return {"keys": keys}

    def _table(self, collection: str) -> Mapping[str, Raw]:
        table = _mapping(self.raw.get(collection, {}), collection)
        return {name: _mapping(entry, f"{collection}.{name}") for name, entry in table.items()}

    def _read(
        self, kind: type[D], collection: str, name: str, extras: Raw | None = None, *, key: str | None = "id"
    ) -> D:
        table = self._table(collection)
        if name not in table:
            raise Invalid("this is not in the file.", where=f"{collection}.{name}", remedy="Add its table.")
        document = dict(table[name]) | dict(extras or {})
        if key is not None:
            document[key] = name
        return read(kind, document, where=f"{collection}.{name}")

    def _person_key(self, name: str) -> PersonKey:
        return PersonKey.of(self.person_key(name).public.jwk())

    def _authority_key(self, name: str) -> PrivateKey:
        return self.keys.key(f"authority:{name}")

    def _approval(self, name: str) -> AlgorithmApproval:
        title, _, version = name.partition("@")
        extras = {"name": title, "version": version, "digest": bundle_digest(name)}
        document = extras | dict(self._table("algorithms")[name])
        return AlgorithmApproval.from_document(document, where=f"algorithms.{name}")

    def _permit_extras(self, collection: str, name: str) -> dict[str, object]:
        raw = self._table(collection)[name]
        people = [str(person) for person in _sequence(raw.get("persons", []))]
        datasets = [_dataset_grant(entry) for entry in _sequence(raw.get("datasets", []))]
        return {
            "persons": [{"id": who, "key": self._person_key(who).to_document()} for who in people],
            "datasets": datasets,
            "algorithms": _algorithms(raw),
        }

    def _subject_specs(self) -> dict[str, SubjectSpec]:
        found: dict[str, SubjectSpec] = {}
        for name, raw in self._table("subjects").items():
            spec = SubjectSpec.from_document(raw, where=f"subjects.{name}")
            if spec.count is None:
                found[name] = spec
            else:
                found |= {f"{name}{number}": spec for number in range(1, spec.count + 1)}
        return found

    def _refusals(self, node: str) -> tuple[LocalRefusal, ...]:
        found = []
        for number, entry in enumerate(_sequence(self.raw.get("refusals", []))):
            told = dict(_mapping(entry, "refusals"))
            if told.pop("node", None) == node:
                found.append(LocalRefusal.from_document(told, where=f"refusals[{number}]"))
        return tuple(found)

    def _ontology(self, name: str | None) -> Ontology | Ontologies:
        table = self._table("ontologies")
        if not table:
            return Ontologies({})
        chosen = name or next(iter(table))
        specs = {term: TermSpec.from_document(spec, where=f"ontologies.{term}") for term, spec in table[chosen].items()}
        return compile_terms(
            Terms(
                release=chosen,
                names={term: spec.name for term, spec in specs.items()},
                parents={term: spec.parents for term, spec in specs.items() if not spec.obsolete},
                obsolete=frozenset(term for term, spec in specs.items() if spec.obsolete),
                replaced={term: spec.replaced_by for term, spec in specs.items() if spec.obsolete},
            )
        )


def merged(base: Raw, patch: Raw) -> dict[str, object]:
    """``base`` with ``patch`` laid over it: tables merge, everything else is replaced."""
    out = dict(base)
    for name, value in patch.items():
        held = out.get(name)
        out[name] = merged(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return out


def without(base: Raw, path: str) -> dict[str, object]:
    """``base`` without the entry at ``collection/name[/field]``. Raises ``Invalid`` when there is none."""
    head, _, rest = path.partition("/")
    if head not in base:
        raise Invalid("there is nothing to remove.", where=path)
    out = dict(base)
    if rest:
        out[head] = without(_mapping(base[head], path), rest)
    else:
        del out[head]
    return out


def moment(text: object, clock: datetime) -> datetime:
    """An instant as written, or an offset such as ``+2d``, ``-30m`` from ``clock``."""
    if isinstance(text, datetime) and text.tzinfo is not None:
        return text.astimezone(UTC)
    offset = _OFFSET.fullmatch(text) if isinstance(text, str) else None
    if offset is not None:
        step = timedelta(**{_UNITS[offset.group(3)]: int(offset.group(2))})
        return clock + step if offset.group(1) == "+" else clock - step
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        at = clock.replace(tzinfo=None)
    if at.tzinfo is None:
        raise Invalid("an instant or an offset belongs here.", where=str(text)[:40], remedy="Write it like +2d.")
    return at.astimezone(UTC)


def bundle_digest(name: str) -> str:
    """The digest that stands for the bundle of ``name@version`` in scenario files."""
    return f"sha256:{sha256(name.encode()).hexdigest()}"


def compact(header: Mapping[str, str], claims: Mapping[str, JsonValue], key: PrivateKey) -> str:
    """A compact JWS: signed by ``key``, or as an attacker would (``none``; HS256 with the public key as secret)."""
    algorithm = header["alg"]
    if algorithm in ("ES256", "RS256"):
        return jws.serialize_compact(dict(header), canonical(claims), key.material, algorithms=[algorithm])
    signed = f"{_encode(json.dumps(header).encode())}.{_encode(canonical(claims))}"
    if algorithm == "none":
        return f"{signed}."
    assert isinstance(key.material, ECKey | RSAKey)
    secret = key.material.as_pem(private=False)
    return f"{signed}.{_encode(hmac.new(secret, signed.encode(), 'sha256').digest())}"


def _broken(token: str) -> str:
    signed, _, signature = token.rpartition(".")
    flipped = "A" if signature[0] != "A" else "B"
    return f"{signed}.{flipped}{signature[1:]}"


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _mapping(value: object, where: str) -> Raw:
    if not isinstance(value, Mapping):
        raise Invalid("a table belongs here.", where=where)
    return value


def _sequence(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Invalid("a list belongs here.", where="list")
    return value


def _dataset_grant(entry: object) -> object:
    """``D1@FI`` for short, or the full table."""
    if not isinstance(entry, str):
        return entry
    dataset, _, node = entry.partition("@")
    return {"dataset": dataset, "node": node}


def _algorithms(raw: Raw) -> list[object]:
    """``gwas@1.2.0`` or ``gwas`` for short, or full tables."""
    found: list[object] = []
    for entry in _sequence(raw.get("algorithms", [])):
        if isinstance(entry, str):
            name, at, version = entry.partition("@")
            found.append({"name": name} | ({"version": version} if at else {}))
        else:
            found.append(entry)
    return found
