"""The rules of access, one function each: what rule R_n has to say about a case.

``decide.py`` asks all that apply, in order, and keeps every reason. Rules about combining nodes, releasing results
and people's roles live with those decisions (``decision.combine``, ``output_review.py``, ``roles.py``).
The numbers are those of the access scenarios, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from federome.governance.case import Case
from federome.governance.clocks import standing
from federome.governance.consent import Operation
from federome.governance.decision import Effect, Obligation, Reason
from federome.model.ontology import Hierarchy
from federome.model.permit import (
    ALLOWED_BASES,
    PROHIBITED_BASES,
    PUBLIC_BODY_BASES,
    HealthcareContract,
    HealthDataRequest,
    Permit,
    Purpose,
)
from federome.model.registry import Role

Check = Callable[[Case], Iterator[Reason]]

AGGREGATES: Final = frozenset({"counts", "frequencies", "summary-statistics", "scalar-test"})
_TOKEN_CODES: Final = ("token_invalid", "alg_not_allowed", "jku_not_allowed", "not_yet_valid", "audience_mismatch")
_VISA_RULES: Final[Mapping[str, tuple[str, ...]]] = {
    "R2": _TOKEN_CODES,
    "R3": ("issuer_untrusted", "source_untrusted"),
    "R4": ("token_expired", "ttl_exceeds_expiry"),
    "R5": ("identity_not_linked",),
    "R6": ("condition_unmet",),
    "R7": ("by_not_accepted", "missing_grant", "missing_registered_access"),
}
_VISA_SAYS: Final[Mapping[str, str]] = {
    "missing_grant": "no visa that counts grants access",
    "missing_registered_access": "researcher status and accepted terms of one value are not both proved",
    "identity_not_linked": "a visa is of an identity that no trusted link ties to this person",
    "condition_unmet": "a visa has conditions that no other visa meets",
    "by_not_accepted": "a visa does not say that a body with that authority gave it",
    "issuer_untrusted": "a visa's issuer is not trusted for it",
    "source_untrusted": "a visa's source is not trusted for it",
    "token_expired": "a visa has expired",
    "ttl_exceeds_expiry": "a visa ends before the access that is asked for",
    "alg_not_allowed": "a visa is signed with an algorithm other than ES256 and RS256",
    "jku_not_allowed": "a visa names a key address that is not its issuer's; it was not fetched",
    "not_yet_valid": "a visa comes from the future",
    "audience_mismatch": "a visa is for another node",
    "token_invalid": "a visa cannot be verified",
}
# Roles that look after machines and records; they give no right to data (R22).
_DATA_ROLES: Final[frozenset[Role]] = frozenset({"researcher", "clinician"})
_CUSTODIAN_ROLES: Final[frozenset[Role]] = frozenset({"node-operator", "administrator", "auditor"})


@dataclass(frozen=True)
class Rule:
    """One rule: its number, what it is about, for which operations it is asked, and the function that answers.

    ``asked`` says whether this node and this case give it anything to look at, for an honest explanation.
    """

    id: str
    title: str
    operations: frozenset[Operation]
    check: Check
    asked: Callable[[Case], bool] = lambda _case: True


def default_deny(case: Case) -> Iterator[Reason]:
    """R1: nothing happens at a node but what that node holds and was asked for by name."""
    request = case.request
    if request.node != case.state.node:
        yield _no("R1", "audience_mismatch", "the request is for another node.")
    if request.operation not in ("catalogue", "rows") and not request.datasets:
        yield _no("R1", "incomplete", "the request names no dataset.")
    held = {dataset.id for dataset in case.datasets if dataset.node in ("", case.state.node) or _applying(case)}
    for name in request.datasets:
        if name not in held:
            yield _no("R1", "incomplete", f"{name} is not a dataset of this node.", about=name)
    if request.operation in ("run", "request", "match", "apply") and request.purpose is None:
        yield _no("R1", "incomplete", "the request states no purpose.")


def tokens(case: Case) -> Iterator[Reason]:
    """R2: what was signed must be signed rightly; of visas only those that were needed count against the person."""
    yield from (failure for failure in case.evidence.failures if failure.rule == "R2")
    yield from _visa_reasons(case, "R2")


def visa_trust(case: Case) -> Iterator[Reason]:
    """R3: broker, issuer and source are trusted for this type of visa."""
    yield from _visa_reasons(case, "R3")


def visa_expiry(case: Case) -> Iterator[Reason]:
    """R4: every visa that is needed outlasts the access."""
    yield from _visa_reasons(case, "R4")


def visa_links(case: Case) -> Iterator[Reason]:
    """R5: visas of several identities count together only where trusted links connect them."""
    yield from _visa_reasons(case, "R5")


def visa_conditions(case: Case) -> Iterator[Reason]:
    """R6: a conditional visa counts when its conditions are met."""
    yield from _visa_reasons(case, "R6")


def visa_needs(case: Case) -> Iterator[Reason]:
    """R7: the grant for each dataset, or registered access, is there."""
    yield from _visa_reasons(case, "R7")


def run_order(case: Case) -> Iterator[Reason]:
    """R8: a fresh order, signed by the person, bound to this node, permit, algorithm and parameters."""
    yield from (failure for failure in case.evidence.failures if failure.rule == "R8")
    order, request = case.evidence.order, case.request
    if order is None:
        if not any(failure.rule == "R8" for failure in case.evidence.failures):
            yield _no("R8", "incomplete", "no run order signed by the person was shown.")
        return
    bound = (order.node, order.person, order.permit, order.algorithm, order.datasets, order.purpose)
    asked = (request.node, request.person, request.grant, request.algorithm, request.datasets, request.purpose)
    if bound != asked or dict(order.parameters) != dict(request.parameters):
        yield _no("R8", "token_invalid", "the order was signed for something else than what is asked.")
    if order.expires <= case.now:
        yield _no("R8", "token_expired", "the run order has expired.")
    if order.deadline <= case.now:
        yield _no("R8", "deadline_passed", "the deadline of the run has passed.")
    grant = case.evidence.grant
    if grant is not None and order.permit != grant.id:
        yield _no("R8", "no_permit", "the order names another permit than the one shown.")


def accreditation(case: Case) -> Iterator[Reason]:
    """R9: an active institution, a vetted person whom it assigned, current terms, no blacklisting."""
    person, institution = case.person, case.institution
    if institution is not None and not institution.standing(case.now):
        yield _no("R9", "institution_suspended", "the person's institution is not active.", about=institution.id)
    if person is None:
        if "accreditation" in case.state.policy.required:
            yield _no("R9", "user_not_accredited", "the person is not in the register of accredited people.")
        return
    if institution is None or not person.vetted or not person.assigned:
        yield _no("R9", "user_not_accredited", "the person is not vetted, or not assigned by the institution.")
    if not person.assigned:
        yield _no("R9", "sign_off_missing", "the institution's signing official has not named the person.")
    if case.state.policy.terms is not None and person.terms != case.state.policy.terms:
        yield _no("R9", "terms_outdated", "the current terms of use were not accepted.")
    for name in ("all", *case.request.datasets):
        if name in person.blacklisted:
            yield _no("R9", "blacklisted", f"the person is excluded from {name}.", about=name)


def permit(case: Case) -> Iterator[Reason]:
    """R10: an active permit (or health data request) for person, dataset, node, purpose and algorithm, now."""
    if case.request.operation == "frequency" and not any(dataset.tier == "controlled" for dataset in case.datasets):
        return
    request, grant = case.request, case.authorisation
    wanted = HealthDataRequest if request.operation == "request" else Permit
    if grant is None or not isinstance(grant, wanted):
        kind = "health data request" if wanted is HealthDataRequest else "permit"
        yield _no("R10", "no_permit", f"no valid {kind} was shown.")
        return
    if request.grant is not None and request.grant != grant.id:
        yield _no("R10", "no_permit", "the permit shown is not the one that is named.", about=request.grant)
    named = f"{'request' if wanted is HealthDataRequest else 'permit'} {grant.id}"
    yield from _validity(case, grant, named)
    if request.person is None or grant.person(request.person) is None:
        yield _no("R10", "person_not_named", f"{named} does not name this person.", about=grant.id)
    if request.node not in grant.nodes:
        yield _no("R10", "node_not_in_permit", f"{named} does not cover the data of this node.", about=request.node)
    covered = {each.dataset for each in grant.at_node(request.node)}
    for name in request.datasets:
        if name not in covered:
            says = f"{named} does not cover {name}." if request.node in grant.nodes else ""  # else that was said
            yield _no("R10", "dataset_not_in_permit", says, about=name)
    if case.ontology is None:
        says = f"the ontology release that {named} pins is not installed here."
        yield _no("R10", "incomplete", says, about=str(grant.ontology))
    elif request.purpose is not None and not within(request.purpose, grant.purpose, case.ontology):
        yield _no("R10", "purpose_mismatch", f"the stated purpose is not within that of {named}.", about=grant.id)
    algorithm = request.algorithm
    klass = case.approval.release_class if case.approval else None
    if algorithm is not None and not any(a.covers(algorithm, release_class=klass) for a in grant.algorithms):
        says = f"{named} does not allow {algorithm.name} {algorithm.version}."
        yield _no("R10", "algorithm_not_approved", says, about=algorithm.name)


def purpose_of_law(case: Case) -> Iterator[Reason]:
    """R11: EHDS Art. 54 purposes never; Art. 53(1)(a) to (c) only public bodies, or who acts for one."""
    purpose, institution = case.request.purpose, case.institution
    if purpose is None:
        return
    if purpose.basis in PROHIBITED_BASES:
        yield _no("R11", "purpose_prohibited", f"the purpose is prohibited by {PROHIBITED_BASES[purpose.basis]}.")
    if purpose.basis in PUBLIC_BODY_BASES and not (institution and _acts_publicly(case, institution.id)):
        article = ALLOWED_BASES[purpose.basis]
        yield _no("R11", "purpose_reserved_public_body", f"{article} is for public bodies and those they mandate.")


def data_use_permission(case: Case) -> Iterator[Reason]:
    """R12: the dataset's consented permission admits the purpose."""
    yield from _data_use(case, "R12")


def data_use_modifiers(case: Case) -> Iterator[Reason]:
    """R13: the dataset's modifiers admit the user, the institution, the purpose and the day."""
    yield from _data_use(case, "R13")


def data_use_geography(case: Case) -> Iterator[Reason]:
    """R14: the accredited institution's country lies in the regions that GS names; an IP address says nothing."""
    yield from _data_use(case, "R14")


def algorithm(case: Case) -> Iterator[Reason]:
    """R17: exactly the approved bundle, in force, not revoked, with parameters in their approved ranges."""
    wanted, approval = case.request.algorithm, case.approval
    if wanted is None:
        yield _no("R17", "incomplete", "the request names no algorithm.")
        return
    name = f"{wanted.name} {wanted.version}"
    told = case.state.revocations_at
    if told is not None and case.now - told > timedelta(hours=case.state.policy.max_revocation_age_h):
        yield _no("R17", "algorithm_not_approved", "this node's list of revoked algorithms is too old to rely on.")
    if approval is None:
        yield _no("R17", "algorithm_not_approved", f"{name} is not approved here.", about=wanted.name)
        return
    if approval.revoked(case.now):
        yield _no("R17", "algorithm_revoked", f"{name} was revoked.", about=wanted.name)
    if not approval.in_force(case.now):
        yield _no("R17", "algorithm_not_approved", f"the approval of {name} is not in force.", about=wanted.name)
    if approval.digest != wanted.digest:
        yield _no("R17", "algorithm_digest_mismatch", f"{name} is not the bundle that was approved.", about=wanted.name)
    for parameter, bounds in sorted(approval.parameters.items()):
        if parameter in case.request.parameters and not bounds.admits(case.request.parameters[parameter]):
            says = f"the parameter {parameter} of {name} lies outside its approved range."
            yield _no("R17", "algorithm_param_out_of_range", says, about=parameter)


def record_level(case: Case) -> Iterator[Reason]:
    """R19: nothing record-level leaves, whoever asks."""
    if case.request.operation == "rows":
        yield _no("R19", "record_level_output", "rows of people never leave a node.")
    elif case.approval is not None and case.approval.release_class == "record":
        yield _no("R19", "record_level_output", "the algorithm's results are rows of people, which never leave a node.")


def local_refusal(case: Case) -> Iterator[Reason]:
    """R20: the node operator's own no stands above every central yes."""
    request = case.request
    facts: dict[str, set[str | None]] = {
        "person": {request.person},
        "institution": {case.institution.id if case.institution else None},
        "grant": {request.grant},
        "dataset": set(request.datasets),
        "algorithm": {request.algorithm.name if request.algorithm else None},
        "run": {case.evidence.order.run if case.evidence.order else None},
    }
    for refusal in case.state.refusals:
        given = {name: getattr(refusal, name) for name in facts if getattr(refusal, name) is not None}
        if all(value in facts[name] for name, value in given.items()):
            yield _no("R20", "wrong_state", f"the node operator refuses: {refusal.reason}")


def process(case: Case) -> Iterator[Reason]:
    """R21: where the application's course is known, its approval holds at this node at this instant."""
    course = case.state.processes.get(case.request.grant or "")
    if course is None:
        return
    place = standing(course, case.request.node, now=case.now, calendar=case.state.calendar)
    if place.state in ("vetoed", "rejected"):
        yield _no("R21", "wrong_state", f"at this node {place.says}", about=course.permit)
    elif place.state != "confirmed":
        yield _no("R21", "wrong_state", f"at this node {place.says}", about=course.permit, effect="refer")


def duties_apart(case: Case) -> Iterator[Reason]:
    """R22: who looks after machines or logs has no right to data by that role."""
    person = case.person
    if person is None or case.request.operation in ("catalogue", "apply"):
        return
    if _CUSTODIAN_ROLES & set(person.roles) and not _DATA_ROLES & set(person.roles):
        yield _no("R22", "not_your_role", "operators, administrators and auditors have no right to data.")


def aggregate_only(case: Case) -> Iterator[Reason]:
    """R23: a health data request is answered with aggregates and nothing else."""
    if case.approval is not None and case.approval.release_class not in AGGREGATES:
        says = f"a health data request is answered with aggregates, not with a {case.approval.release_class}."
        yield _no("R23", "output_class_unapproved", says)


def care(case: Case) -> Iterator[Reason]:
    """R24: one named patient, a vetted clinician, a healthcare-reuse contract, a matching algorithm."""
    request, contract = case.request, case.evidence.grant
    if request.purpose is not None and request.purpose.basis != "care":
        yield _no("R24", "purpose_mismatch", "a healthcare-reuse contract serves care and nothing else.")
    if case.person is None or "clinician" not in case.person.roles or not (case.person.vetted and case.person.assigned):
        yield _no("R24", "user_not_accredited", "only a vetted clinician may match a patient.")
    if not isinstance(contract, HealthcareContract):
        yield _no("R24", "no_healthcare_contract", "the institution has no healthcare-reuse contract here.")
        return
    today = case.now.date()
    if (
        case.institution is None
        or contract.institution != case.institution.id
        or request.node not in contract.nodes
        or not contract.valid_from <= today <= contract.valid_until
        or contract.id in case.state.suspended
    ):
        yield _no("R24", "no_healthcare_contract", f"{contract.id} does not cover this institution, node and day.")
    klass = case.approval.release_class if case.approval else None
    wanted = request.algorithm
    if wanted is not None and not (
        klass == "match" and any(a.covers(wanted, release_class=klass) for a in contract.algorithms)
    ):
        yield _no("R24", "algorithm_not_approved", f"{contract.id} covers approved matching algorithms only.")


def obligations(case: Case) -> tuple[Obligation, ...]:
    """What the person owes if this goes ahead: by operation, and by the data use of each dataset."""
    owed = {obligation for answer in case.matches for obligation in answer.obligations}
    match case.request.operation:
        case "catalogue":
            owed.add(Obligation("open_metadata_only"))
        case "request":
            owed.add(Obligation("aggregate_only"))
        case "match":
            owed |= {Obligation("audit"), Obligation("care_purpose_only"), Obligation("contact_through_node")}
        case _:
            pass
    return tuple(sorted(owed))


def within(stated: Purpose, granted: Purpose, ontology: Hierarchy) -> bool:
    """Whether a stated purpose is covered by a granted one: same basis, nothing wider, diseases at or below."""
    if stated.basis != granted.basis or (stated.commercial and not granted.commercial):
        return False
    covering = set(granted.studied)
    for topic in stated.studied:
        if topic in covering or "general" in covering or (topic == "disease" and "health" in covering):
            continue
        return False
    if {"general", "health"} & covering or not stated.diseases:
        return True
    return all(any(ontology.covers(own, disease) for own in granted.diseases) for disease in stated.diseases)


def _validity(case: Case, grant: Permit | HealthDataRequest, named: str) -> Iterator[Reason]:
    today = case.now.date()
    if today < grant.valid_from:
        yield _no("R10", "permit_not_started", f"{named} starts on {grant.valid_from}.", about=grant.id)
    if today > grant.valid_until:
        yield _no("R10", "permit_expired", f"{named} ended on {grant.valid_until}.", about=grant.id)
    if grant.id in case.state.suspended:
        yield _no("R10", "permit_suspended", f"{named} is suspended.", about=grant.id)
    if grant.id in case.state.superseded:
        says = f"{named} was signed anew since, and this one is suspended: ask with the newest one."
        yield _no("R10", "permit_suspended", says, about=grant.id)


def _visa_reasons(case: Case, rule: str) -> Iterator[Reason]:
    for need in case.visa_needs:
        if need.visas:
            continue
        for code in sorted({need.code, *need.codes}):
            if code in _VISA_RULES[rule]:
                yield _no(rule, code, f"for {need.about}, {_VISA_SAYS[code]}.", about=need.about)


def _data_use(case: Case, rule: str) -> Iterator[Reason]:
    for answer in case.matches:
        yield from (reason for reason in answer.reasons if reason.rule == rule)


def _acts_publicly(case: Case, institution: str) -> bool:
    own = case.state.institutions[institution]
    bodies = [case.state.institutions.get(name) for name in own.mandated_by]
    return own.public_body or any(body and body.public_body and body.standing(case.now) for body in bodies)


def _visas_needed(case: Case) -> bool:
    return bool(case.visa_needs)


def _register_asked(case: Case) -> bool:
    known = case.person is not None or case.institution is not None
    return known or "accreditation" in case.state.policy.required


def _course_known(case: Case) -> bool:
    return case.request.grant in case.state.processes


def _applying(case: Case) -> bool:
    """An application concerns datasets of many nodes; it is judged where it is handed in."""
    return case.request.operation == "apply"


def _no(rule: str, code: str, says: str, *, about: str = "", effect: Effect = "deny") -> Reason:
    return Reason(rule, code, effect, about, says)


_ALL: Final[frozenset[Operation]] = frozenset({"catalogue", "frequency", "match", "run", "request", "rows", "apply"})
_ORDERED: Final[frozenset[Operation]] = frozenset({"match", "run", "request"})
_VISAS: Final[frozenset[Operation]] = frozenset({"frequency", "run"})
_USES: Final[frozenset[Operation]] = frozenset({"match", "run", "request", "apply"})

RULES: Final[tuple[Rule, ...]] = (
    Rule("R1", "default deny", _ALL, default_deny),
    Rule("R2", "signed documents", _VISAS | _ORDERED, tokens),
    Rule("R3", "trusted issuers and sources", _VISAS, visa_trust, _visas_needed),
    Rule("R4", "visas outlast the access", _VISAS, visa_expiry, _visas_needed),
    Rule("R5", "linked identities", _VISAS, visa_links, _visas_needed),
    Rule("R6", "conditions of visas", _VISAS, visa_conditions, _visas_needed),
    Rule("R7", "grants and registered access", _VISAS, visa_needs, _visas_needed),
    Rule("R8", "run order", _ORDERED, run_order),
    Rule("R9", "accreditation", _USES, accreditation, _register_asked),
    Rule("R10", "permit", frozenset({"run", "request", "rows", "frequency"}), permit),
    Rule("R11", "purpose under the law", _USES, purpose_of_law),
    Rule("R12", "data use: permission", _USES, data_use_permission),
    Rule("R13", "data use: modifiers", _USES, data_use_modifiers),
    Rule("R14", "data use: geography", _USES, data_use_geography),
    Rule("R17", "approved algorithm", _ORDERED, algorithm),
    Rule("R19", "nothing record-level leaves", frozenset({"run", "request", "rows"}), record_level),
    Rule("R20", "the node's own word", _ALL, local_refusal),
    Rule("R21", "course of the application", frozenset({"run", "request"}), process, _course_known),
    Rule("R22", "separation of duties", _ALL, duties_apart, lambda case: case.person is not None),
    Rule("R23", "health data request", frozenset({"request"}), aggregate_only),
    Rule("R24", "care", frozenset({"match"}), care),
)
