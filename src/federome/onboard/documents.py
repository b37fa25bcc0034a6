"""Papers that a provider owes: data management plan, record of processing, draft of an impact assessment.

They repeat what ``provider.toml``, the node's policy and the release itself say, so that they cannot disagree with what
the node does; what only people can judge is left open and marked. Drafts for a data protection officer, no legal
advice. Sources: RDA DMP Common Standard 1.1; GDPR Art. 30(1) and 35(7).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from federome.network.records import DatasetRecord
from federome.onboard.provider import BASES, SPECIAL, Provider

HEALTHDCAT: Final = "https://healthdataeu.pages.code.europa.eu/healthdcat-ap"
OPEN: Final = "**[to be judged by people]**"


def management_plan(words: Provider, record: DatasetRecord | None, *, today: date) -> dict[str, Any]:
    """The machine-actionable data management plan."""
    described, party = words.dataset, words.provider
    real = not described.synthetic
    issued = today if record is None else record.released_on
    identifier = words.identifier or (record.identifier if record else described.id)
    contact_id = (
        {"identifier": f"https://orcid.org/{party.orcid}", "type": "orcid"}
        if party.orcid
        else {"identifier": f"mailto:{party.email}", "type": "other"}
    )
    dataset: dict[str, Any] = {
        "title": described.title,
        "description": described.description,
        "dataset_id": {"identifier": identifier, "type": "other"},
        "personal_data": "yes" if real else "no",
        "sensitive_data": "yes" if real else "no",
        "issued": issued.isoformat(),
        "keyword": list(described.keywords),
        "language": "eng",
        "type": "genotypes and phenotypes",
        "metadata": [
            {
                "metadata_standard_id": {
                    "identifier": HEALTHDCAT,
                    "type": "url",
                },
                "language": "eng",
            }
        ],
        "security_and_privacy": [
            {"title": "Data stay at the node", "description": "Approved programs come to the data; totals leave."},
            {"title": "Consent", "description": "People without a valid consent record are in no answer."},
            {
                "title": "Thresholds",
                "description": f"No cell about fewer than {words.policy.k_min} people is told.",
            },
        ],
        "distribution": [
            {
                "title": f"{described.title}, through permits",
                "data_access": "open" if words.policy.open_data else "closed",
                "format": ["application/vnd.federome.release"],
            }
        ],
    }
    if words.legal.retained_until:
        dataset["preservation_statement"] = f"Kept until {words.legal.retained_until.isoformat()}."
    return {
        "dmp": {
            "title": f"Data management plan of {described.title}",
            "created": f"{today.isoformat()}T00:00:00Z",
            "modified": f"{today.isoformat()}T00:00:00Z",
            "language": "eng",
            "ethical_issues_exist": "yes" if real else "no",
            "ethical_issues_description": f"Legal basis: {_grounds(words)}.",
            "dmp_id": {"identifier": f"urn:federome:dmp:{identifier}", "type": "other"},
            "contact": {"name": party.contact, "mbox": party.email, "contact_id": contact_id},
            "dataset": [dataset],
        }
    }


def processing_record(words: Provider, record: DatasetRecord | None) -> str:
    """The record of processing activities (Art. 30(1) GDPR), one section a letter."""
    party, legal = words.provider, words.legal
    officer = f"{party.protection_officer} <{party.protection_email}>" if party.protection_officer else OPEN
    size = f"about {record.people:,} people" if record else "people of the dataset"
    kept = legal.retained_until.isoformat() if legal.retained_until else OPEN
    return "\n".join(
        [
            f"# Record of processing: {words.dataset.title}",
            "",
            f"(a) **Controller**: {party.name}, {party.contact} <{party.email}>. Data protection officer: {officer}.",
            f"(b) **Purposes**: {', '.join(legal.purposes)}. Basis: {_grounds(words)}. Data use: {_use(words)}.",
            f"(c) **Categories**: {size}; pseudonyms, health, genetic data ({words.dataset.profile}).",
            "(d) **Recipients**: holders of a permit, who see totals and no person; hub and releaser see sums.",
            f"(e) **Third countries**: none by this node; agreements: {_agreements(words)}.",
            f"(f) **Erasure**: {kept}; single people on withdrawal, by `federome store compact`.",
            "(g) **Measures**: decisions at the node for every task, approved programs only, masked sums, thresholds "
            f"({words.policy.k_min} people under a permit, {words.policy.k_public} in public), a tamper-evident log.",
            "",
        ]
    )


def impact_assessment(words: Provider, record: DatasetRecord | None) -> str:
    """The draft of an impact assessment in the four parts of Art. 35(7) GDPR."""
    complete = record.completeness if record else {}
    filled = ", ".join(f"{name} {share} %" for name, share in complete.items() if share < 100) or OPEN
    policy = words.policy
    same = "" if policy.same_people == "refuse" else " or not at all"
    return "\n".join(
        [
            f"# Impact assessment (draft): {words.dataset.title}",
            "",
            "## (a) What is done, and why",
            f"{words.provider.name} holds {words.dataset.description} Purposes: {', '.join(words.legal.purposes)}. "
            f"Basis: {_grounds(words)}. Programs that two organisations reviewed come to the node; totals leave it.",
            f"Quality verdict: {record.quality if record else OPEN}. Fields that are not complete: {filled}.",
            "",
            "## (b) Whether it is necessary and proportionate",
            f"Fields are those of the profile {words.dataset.profile}; other columns were left out. {OPEN}",
            "",
            "## (c) What could happen to people",
            "| risk | how it is met | what remains |",
            "|---|---|---|",
            f"| a small group is told of | thresholds of {policy.k_min} and {policy.k_public} people | {OPEN} |",
            f"| two answers differ by few people | cohorts differ by at least {policy.difference_min}{same} | {OPEN} |",
            f"| somebody who holds a genome learns that it is in | at most {policy.membership_power:.0%} of members "
            f"may be recognised, at 5 % false alarms | {OPEN} |",
            "| a person withdrew | asked again before every release | results that left before | ",
            f"| a record names somebody | pattern scan, free text is refused | {OPEN} |",
            "",
            "## (d) Measures",
            f"As in the record of processing. Agreements in force: {_agreements(words)}. Residual risk: {OPEN}",
            "",
        ]
    )


def _grounds(words: Provider) -> str:
    legal = words.legal
    law = f", {legal.national_law}" if legal.national_law else ""
    return f"{legal.basis} ({BASES[legal.basis]}), {legal.special} ({SPECIAL[legal.special]}){law}"


def _use(words: Provider) -> str:
    if words.data_use is None:
        return "none stated"
    return " ".join([words.data_use.permission, *(modifier.code for modifier in words.data_use.modifiers)])


def _agreements(words: Provider) -> str:
    return ", ".join(f"{a.kind} {a.reference} with {a.party}" for a in words.agreements) or "none"


def drafts(words: Provider, record: DatasetRecord | None, *, today: date) -> Mapping[str, str]:
    """All papers by file name."""
    import json

    return {
        "dmp.json": json.dumps(management_plan(words, record, today=today), indent=1, ensure_ascii=False) + "\n",
        "record-of-processing.md": processing_record(words, record),
        "impact-assessment.md": impact_assessment(words, record),
    }
