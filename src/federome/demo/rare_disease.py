"""The roadmap's rare-disease story: a case without a diagnosis, and the second one in another nation.

Everybody is invented. Gene and terms are those that the HPO annotations give for SYNGAP1 (OMIM:612621,
from PMID:19196676 and PMID:21237447). Three hospitals' nodes run as processes; every question, and every yes of the
clinician who asks, goes as a sealed letter over the hub.
"""

from __future__ import annotations

import time
from typing import Final

from rich.table import Table as Grid

from federome.analysis.matching import Explanation
from federome.demo.care import Clinic, Clinics, played
from federome.demo.stage import Stage
from federome.errors import Invalid
from federome.model.match import Handle
from federome.model.patient import Patient

GENE: Final = "SYNGAP1"
# Global delay, myoclonic absences, hypotonia, autistic behaviour, an abnormal EEG.
ASKED: Final = Patient(
    "girl-of-six",
    ("HP:0001263", "HP:0011150", "HP:0001252", "HP:0000729", "HP:0002353"),
    (),
    ("KCNH5", GENE, "DLG3"),
)
# The second case, by another hand: no EEG, and a strabismus.
SECOND: Final = Patient(
    "boy-of-nine", ("HP:0001263", "HP:0011150", "HP:0001252", "HP:0000729", "HP:0000486"), (), (GENE, "PCDH19")
)
# Like it in part, by other genes: who holds it declines.
ALIKE: Final = Patient("boy-of-four", ("HP:0001263", "HP:0001252", "HP:0002353"), (), ("MED12",))


def rare_disease(stage: Stage) -> None:
    """Ask, be answered, be left without a word by one clinician, and be put in touch with another."""
    played(
        stage,
        "rare disease",
        "A disease without a name: is there a second case anywhere?",
        _played,
    )


def _played(open_: Clinics) -> dict[str, object]:
    console = open_.stage.console
    mine, second, third = open_.clinics
    case = mine.register(ASKED)
    second.register(SECOND)
    third.register(ALIKE)
    abroad = [second.node, third.node]
    with open_.asker(mine, case) as asker:
        asked_at = time.perf_counter()
        merged = asker.match(abroad, mine.home.desk.measure, mine.home.desk.background, top=10)
        seconds = time.perf_counter() - asked_at
        console.print(
            f"  {mine.person} asks {' and '.join(abroad)}: {len(ASKED.observed)} terms and {len(ASKED.genes)} genes, "
            f"sealed; answered in {seconds:.1f} s"
        )
        if merged.silent or merged.mismatched:
            raise Invalid(f"not every node answered: { {**merged.silent, **merged.mismatched} }.", where="rare disease")
        console.print(_listed(merged.matches[:4]))
        best = merged.matches[0]
        other = next(match for match in merged.matches if match.node == third.node)
        chance = asker.chances(merged, mine.home.desk.measure, mine.home.desk.background)[0]
        before = asker.contact(best.node, best.handle, yes=True, address=mine.address).state
        asker.contact(other.node, other.handle, yes=True, address=mine.address)
        declined_before = asker.contact(other.node, other.handle, yes=None).state
        _decide(third, yes=False)
        declined = asker.contact(other.node, other.handle, yes=None).state
        _decide(second, yes=True)
        agreed = asker.contact(best.node, best.handle, yes=None)
        why = asker.reasons(agreed, mine.home.desk.measure)
    theirs = [wait.address for wait in second.home.desk.waiting(second.person) if wait.state == "agreed"]
    if (
        why is None
        or agreed.state != "agreed"
        or theirs != [mine.address]
        or {before, declined_before, declined} != {"open"}
    ):
        raise Invalid("the contact did not go as it must.", where="rare disease")
    console.print(
        f"  {mine.person} says yes to both: [bold]{before}[/] and [bold]{declined_before}[/]. "
        f"{third.person} declines: still [bold]{declined}[/], as if nobody had looked.\n"
        f"  {second.person} says yes: [bold]{agreed.state}[/]. Only now: {agreed.address}, and there {theirs[0]}"
    )
    _explained(open_, chance, why)
    return {
        "asked": abroad,
        "found_at": best.node,
        "score": best.score,
        "evidence": best.evidence,
        "probability": round(chance, 3),
        "shared_terms": [term.name for term in why.shared],
        "shared_genes": list(why.genes),
        "before_both_agree": [before, declined_before],
        "after_decline": declined,
        "after_both_agree": agreed.state,
        "answer_seconds": round(seconds, 2),
    }


def _decide(clinic: Clinic, *, yes: bool) -> None:
    """A clinician decides on the one contact in their inbox."""
    (wait,) = [each for each in clinic.home.desk.waiting(clinic.person) if each.state == "undecided"]
    clinic.home.desk.decided(clinic.person, wait.handle, yes=yes, address=clinic.address if yes else "")


def _listed(matches: tuple[Handle, ...]) -> Grid:
    grid = Grid(title="What comes back: a handle, a score and the kind of evidence", title_justify="left")
    for heading in ("node", "score", "evidence", "handle"):
        grid.add_column(heading)
    for match in matches:
        grid.add_row(match.node, f"{match.score:.2f}", match.evidence, f"{match.handle[:8]}…")
    return grid


def _percent(chance: float) -> str:
    return "over 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


def _explained(open_: Clinics, chance: float, why: Explanation) -> None:
    both = "; ".join(f"{term.name} (1 in {term.one_in:,.0f} diseases)" for term in why.shared)
    unlike = "; ".join(term.name for term in (*why.query_only, *why.candidate_only)) or "nothing"
    open_.stage.console.print(
        f"  Probability of a shared cause, from score and evidence alone: [bold]{_percent(chance)}[/]. "
        f"With the yes came the description; both have {', '.join(why.genes)} on their list.\n  Both: {both}.\n"
        f"  In one alone: {unlike}."
    )
