"""From signed documents to evidence: everything that was shown is verified, and what fails becomes a reason.

The first of the node's words, *authenticate*. ``decide`` then judges what stood up. Nothing is remembered here:
``orders.consume`` uses the order up once the decision allows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from federome.errors import Refused
from federome.governance.case import AccessRequest, Evidence, State, request_of
from federome.governance.decision import InputRef, Reason, Stage
from federome.governance.orders import Seen, claimed_order, verify_order
from federome.governance.passports import Keys, PassportView, check_visas, open_passport
from federome.governance.permits import Grant, verify_grant
from federome.model.order import RunOrder
from federome.model.permit import Authorisation, EthicsDocument, PersonKey
from federome.model.registry import Identity
from federome.trust.canonical import digest_bytes
from federome.trust.keys import KeyRing

# Refusals of an order whose signature is right: the person is known, the order is not to be followed.
_AUTHENTIC: Final = frozenset({"audience_mismatch", "not_yet_valid", "token_expired", "deadline_passed"})


@dataclass(frozen=True)
class Presented:
    """What arrived: compact JWS texts. A passport is either a broker's token, or visas with the ``holder`` whom the
    broker's userinfo named (the embedded-token flow, where the node spoke with the broker itself). Visas beside an
    order need no holder: whoever signed the order holds them, under the identities that the register has.
    """

    order: str | None = None
    grant: str | None = None
    passport: str | None = None
    visas: tuple[str, ...] = ()
    holder: Identity | None = None


@dataclass(frozen=True)
class Anchors:
    """What this node trusts by its own hand: the permit authorities' keys, and where issuers' keys come from."""

    authorities: KeyRing
    keys: Keys | None = None


def gather(
    presented: Presented, *, stage: Stage, state: State, anchors: Anchors, now: datetime, seen: Seen | None = None
) -> tuple[AccessRequest, Evidence]:
    """The request that a run order makes and the evidence for it; failures are kept as reasons, none is raised.

    The order's key is the one that the verified permit names for the person, else the one in the node's register.
    ``seen`` is only asked (at execution start), not told. Raises ``Refused`` only for an order that cannot even be
    read, because then there is nothing to decide. Whoever cannot prove to be the person gets no reason that is
    about the person: the request then names nobody.
    """
    failures: list[Reason] = []
    grant = _grant(presented.grant, anchors.authorities, now, failures)
    claimed = claimed_order(presented.order or "")
    order = _order(presented.order or "", claimed, grant, state, now, failures)
    if order is not None and seen is not None and seen.used(f"{order.person}/{order.jti}"):
        failures.append(Reason("R8", "replayed", says="this run order was used before."))
    request = request_of(claimed, grant, stage=stage, now=now)
    if order is None and not all(f.code in _AUTHENTIC for f in failures if f.rule == "R8"):
        request = replace(request, person=None)
    if presented.passport is None and presented.visas and request.person is not None:
        presented = replace(presented, holder=_registered(request.person, state))
    passport = verify_passport(presented, state=state, anchors=anchors, now=now, ttl=request.ttl, failures=failures)
    return request, Evidence(
        grant=grant,
        order=order,
        passport=passport,
        failures=tuple(dict.fromkeys(failures)),
        inputs=references(presented),
    )


def gather_question(
    request: AccessRequest,
    presented: Presented,
    *,
    state: State,
    anchors: Anchors,
    now: datetime,
    ethics: tuple[EthicsDocument, ...] = (),
) -> Evidence:
    """The evidence for what needs no run order: a Beacon question, an application, the catalogue."""
    failures: list[Reason] = []
    grant = None if presented.grant is None else _grant(presented.grant, anchors.authorities, now, failures)
    view = verify_passport(presented, state=state, anchors=anchors, now=now, ttl=request.ttl, failures=failures)
    return Evidence(grant, None, view, ethics, tuple(dict.fromkeys(failures)), references(presented))


def verify_passport(
    presented: Presented,
    *,
    state: State,
    anchors: Anchors,
    now: datetime,
    ttl: timedelta,
    failures: list[Reason],
) -> PassportView | None:
    """The clearinghouse's view of what was shown; a passport that fails as a whole adds its reasons to ``failures``."""
    if anchors.keys is None or (presented.passport is None and presented.holder is None):
        return None
    house = state.policy.clearinghouse
    holder, visas = presented.holder, presented.visas
    if presented.passport is not None:
        try:
            opened = open_passport(presented.passport, house, anchors.keys, now=now, ttl=ttl, audience=state.node)
            holder, visas = opened
        except Refused as refusal:
            failures.extend(_reasons(refusal, rule="R2"))
            return None
    assert holder is not None
    return check_visas(visas, holder, house, anchors.keys, now=now, ttl=ttl, audience=state.node)


def references(presented: Presented) -> tuple[InputRef, ...]:
    """What was shown, by digest: what a log keeps instead of the documents."""
    single = {"order": presented.order, "grant": presented.grant, "passport": presented.passport}
    refs = [InputRef(kind, "", _digest(token)) for kind, token in single.items() if token is not None]
    refs.extend(InputRef("visa", "", _digest(token)) for token in set(presented.visas))
    return tuple(sorted(refs))


def _grant(token: str | None, authorities: KeyRing, now: datetime, failures: list[Reason]) -> Grant | None:
    if token is None:
        return None
    try:
        return verify_grant(token, authorities, now)
    except Refused as refusal:
        failures.extend(_reasons(refusal, rule="R2"))
        return None


def _order(
    token: str, claimed: RunOrder, grant: Grant | None, state: State, now: datetime, failures: list[Reason]
) -> RunOrder | None:
    key = _key_of(claimed.person, grant, state)
    if key is None:
        says = "no document of an authority gives a key for who signed the order."
        failures.append(Reason("R8", "person_not_named", says=says))
        return None
    try:
        return verify_order(token, key, node=state.node, now=now)
    except Refused as refusal:
        failures.extend(_reasons(refusal, rule="R8"))
        return None


def _registered(person: str, state: State) -> Identity | None:
    """The person's identity at a broker that is trusted here, by the node's own register."""
    house, known = state.policy.clearinghouse, state.persons.get(person)
    trusted = {issuer.issuer for issuer in house.issuers if issuer.broker}
    return next((one for one in known.identities if one.iss in trusted), None) if known is not None else None


def _key_of(person: str, grant: Grant | None, state: State) -> PersonKey | None:
    named = grant.person(person) if isinstance(grant, Authorisation) else None
    if named is not None:
        return named.key
    registered = state.persons.get(person)  # a contract names no people: the register knows the clinicians
    return registered.key if registered is not None else None


def _reasons(refusal: Refused, *, rule: str) -> Iterable[Reason]:
    says = f"{refusal.message.rstrip('.')}."
    return [Reason(rule, code, says=says) for code in refusal.codes]


def _digest(token: str) -> str:
    return digest_bytes(token.encode("utf-8", "surrogatepass"))
