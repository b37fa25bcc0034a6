"""Words of the way to a permit, for people: what states, acts, kinds and roles are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from federome.governance.applications import Kind, State
from federome.portal.languages import N_

STATES: Final[Mapping[State, str]] = {
    "draft": N_("Draft"),
    "conformity": N_("Conformity check"),
    "assessment": N_("With the committee"),
    "veto-window": N_("With the nations"),
    "consensus": N_("Consensus is sought"),
    "agreement": N_("Agreement to be signed"),
    "preparation": N_("Data is prepared"),
    "active": N_("Active"),
    "suspended": N_("Suspended"),
    "closing": N_("Closing"),
    "archived": N_("Archived"),
    "rejected": N_("Rejected"),
    "appeal": N_("Under appeal"),
    "withdrawn": N_("Withdrawn"),
}
WAYS: Final[Mapping[Kind, tuple[State, ...]]] = {
    "permit": ("draft", "conformity", "assessment", "veto-window", "agreement", "preparation", "active", "closing",
               "archived"),
    "request": ("draft", "conformity", "assessment", "veto-window", "active", "closing", "archived"),
    "contract": ("draft", "conformity", "agreement", "active", "closing", "archived"),
}  # fmt: skip
KINDS: Final[Mapping[Kind, tuple[str, str]]] = {
    "permit": (N_("Data permit"), N_("Work with the data of several countries through approved methods.")),
    "request": (N_("Health data request"), N_("One question, one aggregate answer, no access to data.")),
    "contract": (N_("Healthcare contract"), N_("Find a second case for a patient of your own hospital.")),
}
ACTS: Final[Mapping[str, str]] = {
    "save": N_("Save"),
    "sign-off": N_("Sign off this version"),
    "submit": N_("Submit"),
    "withdraw": N_("Withdraw"),
    "return": N_("Return to the applicant"),
    "accept": N_("Accept as complete"),
    "vote": N_("Vote"),
    "recommend": N_("Recommend approval"),
    "recommend-against": N_("Recommend against it"),
    "remind": N_("Remind"),
    "agree": N_("Agree"),
    "veto": N_("Veto"),
    "justify": N_("Justify the veto"),
    "accept-veto": N_("Accept the veto"),
    "close-review": N_("Close the review in favour"),
    "inform-subjects": N_("Data subjects are informed"),
    "tell-applicant": N_("Applicant is told of the long review"),
    "settle": N_("Every nation has spoken"),
    "wait": N_("Every nation vetoed"),
    "fail": N_("No data is left"),
    "sign": N_("Sign the agreement"),
    "seal": N_("All parties have signed"),
    "prepare": N_("The data is ready"),
    "open": N_("Access begins"),
    "ask-extension": N_("Ask for more time"),
    "extend": N_("Give more time"),
    "deny-extension": N_("Deny more time"),
    "suspend": N_("Suspend"),
    "resume": N_("Resume"),
    "report-breach": N_("Report a breach"),
    "blacklist": N_("Confirm the breach"),
    "publish": N_("Results are public"),
    "close": N_("Close the project"),
    "expire": N_("The permit has ended"),
    "confirm-deletion": N_("Data is deleted"),
    "archive": N_("Archived"),
    "repair": N_("Repair in a new draft"),
    "appeal": N_("Appeal"),
    "uphold": N_("Uphold the rejection"),
    "overturn": N_("Send to another committee"),
}
DANGER: Final = frozenset({"withdraw", "veto", "recommend-against", "suspend", "report-breach", "blacklist"})
LOOKS: Final[Mapping[str, str]] = {"active": "good", "rejected": "bad", "suspended": "bad", "withdrawn": "care"}


def words() -> dict[str, Any]:
    """All of them, for templates."""
    return {
        "states": STATES,
        "kinds": KINDS,
        "ways": WAYS,
        "act_names": ACTS,
        "danger": DANGER,
        "looks": LOOKS,
    }


COURSES: Final[Mapping[str, str]] = {
    "under way": N_("Under way"),
    "answered": N_("Answered"),
    "priced": N_("Only its price was asked"),
    "refused": N_("Refused"),
    "too late": N_("Ended without an answer"),
}
BASES: Final[Mapping[str, str]] = {
    "public-health": N_("Protection of public health"),
    "policy": N_("Health policy and regulation"),
    "statistics": N_("Official statistics"),
    "education": N_("Teaching"),
    "research": N_("Scientific research"),
    "care-improvement": N_("Better care"),
    "care": N_("Care for a patient"),
}
METHODS: Final[tuple[tuple[str, str], ...]] = (
    ("cohort-count", N_("How many people are there of a kind?")),
    ("allele-frequency", N_("How common are genetic variants?")),
    ("gwas", N_("Which genetic variants go with a trait or an illness?")),
    ("gene-", N_("Do rare changes of a gene go with an illness?")),
    ("survival", N_("How long until something happens?")),
    ("cox", N_("What makes something happen sooner or later?")),
    ("treatment-effect", N_("How much does a treatment help?")),
    ("score-validation", N_("How well does a score foretell an illness?")),
    ("prs-", N_("How well does a score from many variants foretell an illness?")),
    ("pgx-", N_("How many people have variants that matter for a medicine?")),
    ("ancestry", N_("How are people related by descent?")),
    ("similar-tumours", N_("Which tumours are alike?")),
    ("tumour-", N_("What has changed in tumours?")),
)


def method_in_words(name: str) -> str:
    """What a method asks, for people; empty where nobody has written that yet."""
    return next((words for start, words in METHODS if name.startswith(start)), "")
