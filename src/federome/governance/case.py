"""One case before the rules: what is asked, what was shown and verified, and what the node knows.

``evidence.py`` fills ``Evidence`` from signed documents, the node keeps ``State``, the rules of ``rules.py`` read a
``Case``. Everything here is data; no rule, no clock, no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from typing import Literal

from federome.errors import Invalid
from federome.governance.clocks import Calendar, Process
from federome.governance.consent import Operation
from federome.governance.decision import InputRef, Reason, Stage
from federome.governance.duo import Match, Use, match
from federome.governance.passports import (
    GRANTS,
    Clearinghouse,
    Found,
    Need,
    PassportView,
    Visa,
    find,
    registered_access,
)
from federome.governance.permits import Grant
from federome.model.ontology import Hierarchy
from federome.model.order import RunOrder
from federome.model.permit import (
    AlgorithmRef,
    Authorisation,
    EthicsDocument,
    HealthcareContract,
    HealthDataRequest,
    Permit,
    Purpose,
)
from federome.model.registry import AlgorithmApproval, Dataset, Institution, Person
from federome.model.strict import Document, Identifier, JsonObject, instant_text
from federome.trust.canonical import JsonValue, digest

EvidenceKind = Literal["permit", "order", "passport", "accreditation"]
DEFAULT_TTL_S = 3600


@dataclass(frozen=True)
class AccessRequest(Document):
    """What somebody wants to do at one node. ``grant`` is the id of the permit, request or contract invoked."""

    operation: Operation
    stage: Stage
    node: Identifier
    person: Identifier | None = None
    datasets: tuple[Identifier, ...] = ()
    purpose: Purpose | None = None
    grant: Identifier | None = None
    algorithm: AlgorithmRef | None = None
    parameters: JsonObject = field(default_factory=dict)
    project: Identifier | None = None
    ttl_s: int = DEFAULT_TTL_S

    @property
    def ttl(self) -> timedelta:
        """How long the access must last."""
        return timedelta(seconds=self.ttl_s)


def request_of(order: RunOrder, grant: Grant | None, *, stage: Stage, now: datetime) -> AccessRequest:
    """The request that a run order makes: which operation follows from the kind of document it runs under."""
    operation: Operation = "run"
    if isinstance(grant, HealthDataRequest):
        operation = "request"
    elif isinstance(grant, HealthcareContract) or (grant is None and order.purpose.basis == "care"):
        operation = "match"
    return AccessRequest(
        operation=operation,
        stage=stage,
        node=order.node,
        person=order.person,
        datasets=order.datasets,
        purpose=order.purpose,
        grant=order.permit,
        algorithm=order.algorithm,
        parameters=order.parameters,
        project=grant.project if isinstance(grant, Authorisation) else None,
        ttl_s=max(0, int((order.deadline - now).total_seconds())),
    )


@dataclass(frozen=True)
class Evidence:
    """What was shown and stood up to verification; ``failures`` is what did not, each with its reason.

    ``order`` is only ever set when the person's own key signed it for this node. ``ethics`` are documents attached
    to an application; a permit carries its own.
    """

    grant: Grant | None = None
    order: RunOrder | None = None
    passport: PassportView | None = None
    ethics: tuple[EthicsDocument, ...] = ()
    failures: tuple[Reason, ...] = ()
    inputs: tuple[InputRef, ...] = ()


@dataclass(frozen=True)
class LocalRefusal(Document):
    """A node operator's own no (rule R20): every field that is given must match; none given refuses everything."""

    reason: str
    person: Identifier | None = None
    institution: Identifier | None = None
    grant: Identifier | None = None
    dataset: Identifier | None = None
    algorithm: Identifier | None = None
    run: Identifier | None = None


@dataclass(frozen=True)
class NodePolicy(Document):
    """What a node demands before anything runs: a permit and an order signed by the person it names, at the least.

    ``required`` may add to that and not take from it. ``visas`` lists further visa types (custom ones too) that
    controlled access needs here, where a passport is required.
    """

    required: tuple[EvidenceKind, ...] = ("permit", "order")
    terms: Identifier | None = None
    clearinghouse: Clearinghouse = field(default_factory=Clearinghouse)
    visas: tuple[Identifier, ...] = ()
    max_revocation_age_h: int = 24

    def __post_init__(self) -> None:
        if not {"permit", "order"} <= set(self.required):
            raise Invalid(
                "a node always demands a permit and an order.",
                where="NodePolicy.required",
                remedy='Write required = ["permit", "order"] and what you add to it.',
            )


@dataclass(frozen=True)
class State:
    """What a node knows when it decides. ``ontologies`` maps pinned releases; ``ontology`` is the current one.

    ``suspended`` lists permit ids, ``superseded`` those that the authority has signed anew since;
    ``revocations_at`` tells how fresh the list of revoked algorithms is (``None``: this node is told of revocations
    otherwise and does not age the list).
    """

    node: str
    ontology: Hierarchy
    policy: NodePolicy = field(default_factory=NodePolicy)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    persons: Mapping[str, Person] = field(default_factory=dict)
    institutions: Mapping[str, Institution] = field(default_factory=dict)
    approvals: tuple[AlgorithmApproval, ...] = ()
    ontologies: Mapping[str, Hierarchy] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    superseded: frozenset[str] = frozenset()
    refusals: tuple[LocalRefusal, ...] = ()
    processes: Mapping[str, Process] = field(default_factory=dict)
    calendar: Calendar = field(default_factory=Calendar)
    revocations_at: datetime | None = None

    @cached_property
    def _digests(self) -> dict[tuple[str, str], str]:
        return {}

    def ref(self, kind: str, name: str, record: Document) -> InputRef:
        """The reference to one of this state's records; its digest is made once."""
        known = self._digests.get((kind, name))
        if known is None:
            known = self._digests[(kind, name)] = digest(record.to_document())
        return InputRef(kind, name, known)

    @cached_property
    def switches(self) -> str:
        """Digest of the parts that are no records: what is suspended or refused, and how fresh lists are."""
        parts: JsonValue = {
            "suspended": sorted(self.suspended),
            "superseded": sorted(self.superseded),
            "refusals": [refusal.to_document() for refusal in self.refusals],
            "revocations_at": instant_text(self.revocations_at) if self.revocations_at else None,
            "holidays": self.calendar.to_document(),
        }
        return digest(parts)


@dataclass(frozen=True)
class VisaNeed:
    """One thing that visas had to prove: the visas that do, or none and every code that explains it."""

    code: str
    about: str
    visas: tuple[Visa, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """Request, evidence, state and the instant: all that a rule may look at."""

    request: AccessRequest
    evidence: Evidence
    state: State
    now: datetime

    @cached_property
    def person(self) -> Person | None:
        """The person's record in the register of accredited people."""
        return self.state.persons.get(self.request.person) if self.request.person else None

    @cached_property
    def institution(self) -> Institution | None:
        """The institution that answers for the person: by the register, else the holder of the grant."""
        if self.person is not None:
            return self.state.institutions.get(self.person.institution)
        grant = self.evidence.grant
        holder = grant.institution if isinstance(grant, HealthcareContract) else grant.holder if grant else ""
        return self.state.institutions.get(holder)

    @cached_property
    def datasets(self) -> tuple[Dataset, ...]:
        """The datasets asked for that this node holds."""
        held = (self.state.datasets.get(name) for name in self.request.datasets)
        return tuple(dataset for dataset in held if dataset is not None)

    @cached_property
    def authorisation(self) -> Permit | HealthDataRequest | None:
        """The permit or health data request, where one was shown."""
        grant = self.evidence.grant
        return grant if isinstance(grant, Permit | HealthDataRequest) else None

    @cached_property
    def approval(self) -> AlgorithmApproval | None:
        """The approval of the algorithm's name and version: of the very bundle asked for, if there are several."""
        wanted = self.request.algorithm
        if wanted is None:
            return None
        found = [a for a in self.state.approvals if (a.name, a.version) == (wanted.name, wanted.version)]
        return next((a for a in found if a.digest == wanted.digest), found[0] if found else None)

    @cached_property
    def ontology(self) -> Hierarchy | None:
        """The ontology release the permit pins; ``None`` when this node does not have it."""
        pinned = self.authorisation.ontology if self.authorisation else None
        if pinned is None or pinned == self.state.ontology.release:
            return self.state.ontology
        return self.state.ontologies.get(pinned)

    @cached_property
    def visa_needs(self) -> tuple[VisaNeed, ...]:
        """What visas must prove here: grants for controlled access, the pair for registered access."""
        house, view = self.state.policy.clearinghouse, self._bound_passport
        needs = []
        for dataset in self.datasets:
            tier = dataset.tier if self.request.operation == "frequency" else "controlled"
            if tier == "registered":
                pair, codes = registered_access(view, house)
                needs.append(VisaNeed("missing_registered_access", dataset.id, pair or (), codes))
            elif tier == "controlled" and self._grants_needed:
                found = find(view, Need(GRANTS, (dataset.grant or dataset.id,), house.grants_by))
                needs.append(_need(dataset.id, found))
        if any(need.code == "missing_grant" for need in needs):
            needs.extend(_need(kind, find(view, Need(kind))) for kind in self.state.policy.visas)
        return tuple(needs)

    @cached_property
    def matches(self) -> tuple[Match, ...]:
        """The data-use answer of each dataset; none when no purpose is stated or its ontology is not here."""
        purpose, ontology = self.request.purpose, self.ontology
        if purpose is None or ontology is None:
            return ()
        grant = self.evidence.grant
        use = Use(
            purpose=purpose,
            ontology=ontology,
            now=self.now,
            person=self.request.person,
            institution=self.institution,
            project=self.request.project,
            ethics=self.authorisation.ethics if self.authorisation else self.evidence.ethics,
            began=grant.valid_from if grant else None,
            new=self.request.operation == "apply",
        )
        return tuple(
            match(held.data_use, replace(use, resolved=self._resolved(held.id)), dataset=held.id)
            for held in self.datasets
        )

    def _resolved(self, dataset: str) -> frozenset[str]:
        granted = self.authorisation.at_node(self.request.node) if self.authorisation else ()
        return frozenset(code for named in granted if named.dataset == dataset for code in named.resolved)

    @property
    def _grants_needed(self) -> bool:
        return self.request.operation in ("run", "frequency") and "passport" in self.state.policy.required

    @property
    def _bound_passport(self) -> PassportView:
        """The passport if it is this person's: its holder must be one of the person's registered identities.

        In a Beacon question that names no person, whoever holds the passport is the person.
        """
        view = self.evidence.passport or PassportView(None)
        anonymous = self.request.person is None and self.request.operation == "frequency"
        if anonymous or (self.person is not None and view.holder in self.person.identities):
            return view
        strangers = tuple(visa.ignored("identity_not_linked") for visa in view.visas)
        return PassportView(view.holder, ignored=(*strangers, *view.ignored))

    @property
    def until(self) -> datetime | None:
        """When this access ends by itself: the earliest end of the visas used (R4) and of the permit."""
        ends = [visa.until for need in self.visa_needs for visa in need.visas]
        if self.evidence.grant is not None:
            ends.append(datetime.combine(self.evidence.grant.valid_until + timedelta(days=1), time.min, UTC))
        return min(ends, default=None)

    def inputs(self) -> tuple[InputRef, ...]:
        """References to everything this case rests on, sorted."""
        refs = [*self.evidence.inputs, self.state.ref("policy", self.state.node, self.state.policy)]
        refs += [self.state.ref("dataset", dataset.id, dataset) for dataset in self.datasets]
        if self.person is not None:
            # by digest alone: decisions are logged, and logs name nobody
            refs.append(replace(self.state.ref("person", self.person.id, self.person), id=""))
        if self.institution is not None:
            refs.append(self.state.ref("institution", self.institution.id, self.institution))
        if self.approval is not None:
            approval = self.approval
            refs.append(self.state.ref("algorithm", f"{approval.name}@{approval.version}", approval))
        process = self.state.processes.get(self.request.grant or "")
        if process is not None:
            refs.append(self.state.ref("process", process.permit, process))
        refs.append(InputRef("ontology", self.ontology.release if self.ontology else "", ""))
        refs.append(InputRef("state", self.state.node, self.state.switches))
        refs.append(InputRef("request", self.request.operation, digest(self.request.to_document())))
        return tuple(sorted(set(refs)))


def _need(about: str, found: Found) -> VisaNeed:
    return VisaNeed("missing_grant", about, () if found.visa is None else (found.visa,), found.codes)
