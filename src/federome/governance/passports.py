"""A GA4GH Passport clearinghouse: which visas of a passport count here, and why the others do not.

The node gets a passport (a broker's token, or visas from its userinfo), keeps what is signed, trusted, in time,
linked to the holder and unconditioned or satisfied, and decides on that view (``decide.py``, rules R2 to R7).
GA4GH Passport 1.2.1 and AAI OIDC Profile 1.2.1. No URL is fetched but an allow-listed key set, through ``Keys``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from urllib.parse import unquote

from federome.errors import Invalid, Refused, Unavailable
from federome.governance.visa_conditions import met, well_formed
from federome.model.registry import Identity
from federome.model.strict import Document, Identifier, instant
from federome.trust.canonical import Json, digest_bytes
from federome.trust.keys import KeyRing, SigningAlgorithm
from federome.trust.signing import CLOCK_SKEW_S, Unverified, check_claims, peek, verify

ALGORITHMS: Final[tuple[SigningAlgorithm, ...]] = ("ES256", "RS256")
PASSPORT_TYPE: Final = "vnd.ga4gh.passport+jwt"
VISA_TYPES: Final = ("vnd.ga4gh.visa+jwt", "at+jwt", "JWT", "")
TERMS: Final = "AcceptedTermsAndPolicies"
RESEARCHER: Final = "ResearcherStatus"
GRANTS: Final = "ControlledAccessGrants"
LINKED: Final = "LinkedIdentities"

MAX_VISAS = 200
MAX_URL = 255  # Passport 1.2.1, "URL Claims"
MAX_LINKS = 1000
MAX_VISA_TOKEN_AGE = timedelta(hours=1)  # AAI: an access-token visa older than this must be polled for
_URL_VALUES: Final = frozenset({TERMS, RESEARCHER, GRANTS})


@dataclass(frozen=True)
class VisaTrust(Document):
    """One visa type accepted from an issuer: whose assertions (``sources``) and which ``by`` (empty: any)."""

    type: Identifier
    sources: tuple[Identifier, ...]
    by: tuple[Identifier, ...] = ()


@dataclass(frozen=True)
class IssuerTrust(Document):
    """An issuer this node trusts: for passports (``broker``), for some visa types, with keys at these URLs only.

    The first key URL serves tokens that carry no ``jku`` (passports, visas in access-token format).
    """

    issuer: Identifier
    key_urls: tuple[Identifier, ...]
    broker: bool = False
    visas: tuple[VisaTrust, ...] = ()

    def accepts(self, visa_type: str) -> VisaTrust | None:
        """The trust in this issuer for one visa type."""
        return next((trust for trust in self.visas if trust.type == visa_type), None)


@dataclass(frozen=True)
class Clearinghouse(Document):
    """The trust decisions of one node about passports. Rule R7's ``by`` values are the defaults."""

    issuers: tuple[IssuerTrust, ...] = ()
    max_authz_days: int = 90
    registered_values: tuple[Identifier, ...] = ("https://doi.org/10.1038/s41431-018-0219-y",)
    grants_by: tuple[Identifier, ...] = ("dac",)
    researchers_by: tuple[Identifier, ...] = ("so", "system")

    def issuer(self, name: str | None) -> IssuerTrust | None:
        """The trust entry of an issuer; ``None`` means not trusted at all."""
        return next((trust for trust in self.issuers if trust.issuer == name), None)


class Keys(Protocol):
    """Where verification keys come from; ``url`` is always one that the trust configuration lists."""

    def ring(self, url: str, kid: str, *, owner: str, now: datetime) -> KeyRing:
        """The keys at this URL, refetched if ``kid`` is new. Raises ``Unavailable`` or ``Invalid``."""
        ...


@dataclass(frozen=True)
class Visa:
    """One visa whose signature, trust and times were checked."""

    identity: Identity
    type: str
    value: str
    source: str
    by: str | None
    until: datetime
    conditions: tuple[tuple[Mapping[str, Json], ...], ...]
    digest: str

    def ignored(self, code: str) -> Ignored:
        """This visa as one that does not count, and why."""
        return Ignored(self.digest, (code,), self.type, self.value)


@dataclass(frozen=True)
class Ignored:
    """A visa that does not count, with every reason; ``type`` and ``value`` as it claims them, unverified."""

    digest: str
    codes: tuple[str, ...]
    type: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class PassportView:
    """What is left of a passport: the holder's identities that are linked, the visas that count, and the rest."""

    holder: Identity | None
    visas: tuple[Visa, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    linked: frozenset[Identity] = frozenset()


@dataclass(frozen=True)
class Need:
    """A visa that a decision needs. ``values`` empty accepts any value; ``by`` empty accepts any authority."""

    type: str
    values: tuple[str, ...] = ()
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """The answer to a need: the visa that meets it, or all codes of those that nearly did."""

    visa: Visa | None
    codes: tuple[str, ...] = ()


def open_passport(
    token: str, trust: Clearinghouse, keys: Keys, *, now: datetime, audience: str, ttl: timedelta = timedelta(0)
) -> tuple[Identity, tuple[str, ...]]:
    """The holder and the visas of a broker's passport token.

    Raises ``Refused`` unless a trusted broker signed it and it outlasts the access (``ttl``): the whole passport is
    rejected then.
    """
    seen = peek(token)
    issuer = _text(seen.payload, "iss")
    broker = trust.issuer(issuer)
    if broker is None or not broker.broker or not broker.key_urls:
        raise Refused("the passport's broker is not trusted here.", codes=["issuer_untrusted"])
    if "jku" in seen.header:
        raise Refused("a passport names no key address of its own.", codes=["jku_not_allowed"])
    payload = _verified(seen, broker, broker.key_urls[0], keys, now=now, types=(PASSPORT_TYPE,))
    check_claims(payload, now=now.timestamp(), audience=audience, require=("iss", "sub", "iat", "exp"))
    if ttl and not now + ttl < _moment(payload, "exp"):
        raise _refuse("ttl_exceeds_expiry", "the passport ends before the access that is asked for.")
    listed, subject = payload.get("ga4gh_passport_v1"), _text(payload, "sub")
    if subject is None or not isinstance(listed, list) or not all(isinstance(visa, str) for visa in listed):
        raise Refused("the passport holds no list of visas.", codes=["token_invalid"])
    return Identity(subject, broker.issuer), tuple(str(visa) for visa in listed)


def check_visas(
    tokens: Sequence[str],
    holder: Identity,
    trust: Clearinghouse,
    keys: Keys,
    *,
    now: datetime,
    ttl: timedelta,
    audience: str,
) -> PassportView:
    """What counts of the visas that a trusted broker passed on for ``holder``. Never raises for a bad visa.

    Order: signature, trust and time of each visa alone (R2 to R4, R7); then which identities are linked to the
    holder (R5); then conditions, over visas that count without any (R6). Order of ``tokens`` does not matter.
    More than ``MAX_VISAS`` are not looked at: none counts.
    """
    if len(tokens) > MAX_VISAS:
        return PassportView(holder, ignored=(Ignored(digest_bytes(b""), ("token_invalid",)),))
    broker = trust.issuer(holder.iss)
    if broker is None or not broker.broker:
        return PassportView(holder, ignored=_ordered(_ignored(token, ["issuer_untrusted"]) for token in set(tokens)))
    alone: list[Visa] = []
    ignored: list[Ignored] = []
    for token in dict.fromkeys(tokens):
        try:
            alone.append(_visa(token, trust, keys, now=now, ttl=ttl, audience=audience))
        except Refused as refusal:
            ignored.append(_ignored(token, refusal.codes))
    linked = _linked(holder, alone)
    ours = [visa for visa in alone if visa.identity in linked]
    ignored += [visa.ignored("identity_not_linked") for visa in alone if visa.identity not in linked]
    plain = [visa for visa in ours if not visa.conditions]
    counted = [visa for visa in ours if not visa.conditions or met(visa.conditions, plain)]
    ignored += [visa.ignored("condition_unmet") for visa in ours if visa not in counted]
    return PassportView(
        holder=holder,
        visas=tuple(sorted(counted, key=lambda visa: visa.digest)),
        ignored=_ordered(ignored),
        linked=linked,
    )


def find(view: PassportView, need: Need) -> Found:
    """The visa that meets a need and lasts longest, or every code that explains why none does."""
    fitting = [visa for visa in view.visas if visa.type == need.type and (not need.values or visa.value in need.values)]
    accepted = [visa for visa in fitting if not need.by or visa.by in need.by]
    if accepted:
        return Found(max(accepted, key=lambda visa: (visa.until, visa.digest)))
    codes = {"by_not_accepted"} if fitting else set()
    for visa in view.ignored:
        # A visa that cannot be read at all may have been the one: its reasons are told as well.
        if visa.type in (None, need.type) and (not need.values or visa.value is None or visa.value in need.values):
            codes.update(visa.codes)
    return Found(None, tuple(sorted(codes)))


def registered_access(view: PassportView, trust: Clearinghouse) -> tuple[tuple[Visa, Visa] | None, tuple[str, ...]]:
    """Rule R7: a ResearcherStatus and an AcceptedTermsAndPolicies visa with one accepted value, or the codes."""
    codes: set[str] = set()
    for value in trust.registered_values:
        status = find(view, Need(RESEARCHER, (value,), trust.researchers_by))
        terms = find(view, Need(TERMS, (value,)))
        if status.visa is not None and terms.visa is not None:
            return (status.visa, terms.visa), ()
        codes.update(status.codes, terms.codes)
    return None, tuple(sorted(codes))


def _visa(token: str, trust: Clearinghouse, keys: Keys, *, now: datetime, ttl: timedelta, audience: str) -> Visa:
    seen = peek(token)
    algorithm = seen.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refuse("alg_not_allowed", "a visa is signed with ES256 or RS256.")
    issuer = trust.issuer(_text(seen.payload, "iss"))
    if issuer is None:
        raise _refuse("issuer_untrusted", "a visa's issuer is not trusted here.")
    url = _key_url(seen, issuer)
    payload = _verified(seen, issuer, url, keys, now=now, types=VISA_TYPES)
    check_claims(payload, now=now.timestamp(), audience=audience, require=("iss", "sub", "iat", "exp"))
    claim = payload.get("ga4gh_visa_v1")
    if not isinstance(claim, dict):
        raise _refuse("token_invalid", "a visa holds no visa object.")
    visa = _read(payload, claim, issuer, digest=digest_bytes(token.encode()), max_days=trust.max_authz_days)
    _check_trust(visa, issuer, trust)
    if "jku" not in seen.header and _moment(payload, "iat") + MAX_VISA_TOKEN_AGE < now:
        raise _refuse("token_expired", "a visa in access-token form is more than an hour old.")
    if _moment(claim, "asserted") > now + timedelta(seconds=CLOCK_SKEW_S):
        raise _refuse("not_yet_valid", "a visa was asserted in the future.")
    if not now + ttl < visa.until:
        raise _refuse("ttl_exceeds_expiry", "a visa ends before the access that is asked for.")
    return visa


def _key_url(seen: Unverified, issuer: IssuerTrust) -> str:
    """Where the key may be fetched: decided before anything is fetched, from the configuration alone."""
    jku = seen.header.get("jku")
    openid = "openid" in str(seen.payload.get("scope", "")).split(" ")
    if jku is not None:
        if jku not in issuer.key_urls:
            raise _refuse("jku_not_allowed", "a visa names a key address that is not its issuer's.")
        if openid:
            raise _refuse("token_invalid", "a visa is either a document or an access token.")
        return str(jku)
    if not openid or not issuer.key_urls:
        raise _refuse("token_invalid", "a visa document names no key address.")
    return issuer.key_urls[0]


def _verified(
    seen: Unverified,
    issuer: IssuerTrust,
    url: str,
    keys: Keys,
    *,
    now: datetime,
    types: tuple[str, ...],
) -> dict[str, Json]:
    typ, kid = seen.header.get("typ", ""), seen.header.get("kid")
    if not isinstance(typ, str) or typ.removeprefix("application/") not in types or not isinstance(kid, str):
        raise _refuse("token_invalid", "a token is of another kind, or does not name its key.")
    try:
        ring = keys.ring(url, kid, owner=issuer.issuer, now=now)
    except (Unavailable, Invalid) as error:
        raise _refuse("token_invalid", "the issuer's keys cannot be had, so its token is not believed.") from error
    verified = verify(seen, ring, typ=typ, algorithms=ALGORITHMS, now=now.timestamp())
    if verified.owner != verified.payload.get("iss"):
        raise _refuse("issuer_untrusted", "a token is signed with the key of another issuer.")
    return verified.payload


def _read(
    payload: Mapping[str, Json], claim: Mapping[str, Json], issuer: IssuerTrust, *, digest: str, max_days: int
) -> Visa:
    subject, kind, value, source = _text(payload, "sub"), *(_text(claim, n) for n in ("type", "value", "source"))
    by, conditions = claim.get("by"), claim.get("conditions") or []
    if subject is None or kind is None or value is None or source is None or not isinstance(by, str | None):
        raise _refuse("token_invalid", "a visa lacks a text that it must have.")
    if len(source) > MAX_URL or (kind in _URL_VALUES and len(value) > MAX_URL):
        raise _refuse("token_invalid", "a visa holds an address longer than 255 characters.")
    if not well_formed(conditions) or not isinstance(conditions, list):
        raise _refuse("condition_unmet", "a visa's conditions are malformed.")
    asserted, expires = _moment(claim, "asserted"), _moment(payload, "exp")
    return Visa(
        identity=Identity(subject, issuer.issuer),
        type=kind,
        value=value,
        source=source,
        by=by,
        until=min(expires, asserted + timedelta(days=max_days)),
        conditions=tuple(
            tuple(clause for clause in clauses if isinstance(clause, dict))
            for clauses in conditions
            if isinstance(clauses, list)
        ),
        digest=digest,
    )


def _check_trust(visa: Visa, issuer: IssuerTrust, trust: Clearinghouse) -> None:
    """R3 and R7: trusted for this type, from this source, with an authority that counts."""
    accepted = issuer.accepts(visa.type)
    if accepted is None:
        raise _refuse("issuer_untrusted", "a visa's issuer is not trusted for this type.")
    codes = []
    if visa.source not in accepted.sources:
        codes.append("source_untrusted")
    needed = {GRANTS: trust.grants_by, RESEARCHER: trust.researchers_by}.get(visa.type, ())
    if (
        (needed and visa.by not in needed)
        or (accepted.by and visa.by not in accepted.by)
        or (visa.type == TERMS and visa.by is None)
    ):
        codes.append("by_not_accepted")
    if codes:
        raise Refused("a visa's source or authority is not accepted here.", codes=codes)


def _linked(holder: Identity, visas: Iterable[Visa]) -> frozenset[Identity]:
    """R5: all identities that chains of trusted, unconditioned links tie to the holder."""
    groups = [
        frozenset({visa.identity, *_identities(visa.value)})
        for visa in visas
        if visa.type == LINKED and not visa.conditions
    ]
    reached = {holder}
    grown = True
    while grown:
        before = len(reached)
        for group in groups:
            if not reached.isdisjoint(group):
                reached |= group
        grown = len(reached) > before
    return frozenset(reached)


def _identities(value: str) -> list[Identity]:
    """The entries ``<uri-encoded sub>,<uri-encoded iss>`` of a LinkedIdentities value; malformed ones count nothing."""
    found = []
    for entry in value.split(";")[:MAX_LINKS]:
        sub, comma, iss = entry.partition(",")
        if comma and sub and iss and "," not in iss:
            found.append(Identity(unquote(sub), unquote(iss)))
    return found


def _ordered(ignored: Iterable[Ignored]) -> tuple[Ignored, ...]:
    return tuple(sorted(ignored, key=lambda visa: visa.digest))


def _ignored(token: str, codes: Iterable[str]) -> Ignored:
    digest = digest_bytes(token.encode("utf-8", "surrogatepass"))
    try:
        claim = peek(token).payload.get("ga4gh_visa_v1")
    except Refused:
        claim = None
    if not isinstance(claim, dict):
        return Ignored(digest, tuple(codes))
    return Ignored(digest, tuple(codes), _text(claim, "type"), _text(claim, "value"))


def _text(document: Mapping[str, Json], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and value else None


def _moment(document: Mapping[str, Json], name: str) -> datetime:
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**37:
        raise _refuse("token_invalid", f"a visa has no proper '{name}'.")
    return instant(int(value))


def _refuse(code: str, message: str) -> Refused:
    return Refused(message, codes=[code])
