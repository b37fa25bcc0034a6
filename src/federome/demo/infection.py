"""The roadmap's infectious-disease story: two brothers, and a question that waited for the second.

Ages and variants are those of published families with rare loss of function of TLR7 (Front Immunol 2021, article
719115: brothers of 30 and 27 with p.(Asn215Ser), brothers of 28 and 24, ill and hardly ill, with p.(Trp933Arg); severe
COVID-19 in such men: van der Made et al. 2020, doi:10.1001/jama.2020.13719). Days, nations and courses are scripted.
"""

from __future__ import annotations

import time
from typing import Final

from federome.analysis.infection import Admission, Hit
from federome.demo.care import Clinic, Clinics, played, until
from federome.demo.stage import Stage
from federome.errors import Invalid
from federome.model.patient import Patient
from federome.network.alerts import Received

TERMS: Final = ("HP:0033141", "HP:0004887")  # severe SARS-CoV-2 infection, failure of breathing under ventilation
SEVERE, MILD = 7, 2  # of the WHO scale


def infection(stage: Stage) -> None:
    """A standing question about the first brother; the second is admitted; then a family abroad."""
    played(
        stage,
        "infection",
        "A young man, ventilated, with a rare TLR7 variant: who tells his doctor of the next one?",
        _played,
    )


def _played(open_: Clinics) -> dict[str, object]:
    console = open_.stage.console
    _, mine, abroad = open_.clinics
    desk = mine.home.desk
    first = mine.register(
        Patient("first-brother", TERMS, (), ("TLR7",)), family="family-a", admission=_admitted(30, SEVERE)
    )
    with open_.asker(mine, first) as asker:
        told = asker.watch(open_.nodes, desk.measure, desk.background, infection=True)
        if told.silent:
            raise Invalid(f"not every node took the question: {dict(told.silent)}.", where="infection")
        console.print(f"  {mine.person} leaves a standing question at {', '.join(sorted(told.answers))}")
        mine.register(
            Patient("second-brother", TERMS, (), ("TLR7",)), family="family-a", admission=_admitted(27, SEVERE)
        )
        kin, waited = _next_alert(mine, 1)
        console.print(
            f"  second brother, 27, admitted at {mine.node}: [bold green]alert[/] after {waited:.1f} s "
            f"({kin.evidence}, [bold]{kin.kin or 'unrelated'}[/])"
        )
        mild = Patient("mild-brother", TERMS[:1], (), ("TLR7",))
        abroad.register(mild, family="family-b", admission=_admitted(24, MILD))
        severe = Patient("ventilated-brother", TERMS, (), ("TLR7",))
        abroad.register(severe, family="family-b", admission=_admitted(28, SEVERE))
        far, waited = _next_alert(mine, 2)
        console.print(
            f"  a family at {abroad.node}: brother of 24, hardly ill: no alert; brother of 28, ventilated: "
            f"[bold green]alert[/] after {waited:.1f} s ({far.evidence}, [bold]{far.kin or 'unrelated'}[/])"
        )
        asked = [wait for wait in abroad.home.desk.waiting(abroad.person) if wait.origin == "alert"]
        asker.unwatch(open_.nodes)
    if (kin.node, kin.kin, far.node, far.kin) != (mine.node, "family", abroad.node, ""):
        raise Invalid("an alert says something else than was scripted.", where="infection")
    if [wait.case for wait in asked] != [severe.id]:
        raise Invalid("the clinician abroad is asked about somebody else.", where="infection")
    console.print(
        f"  {abroad.person} is asked as well: {mine.node} has one like {asked[0].case}; nobody's address has moved"
    )
    return {
        "watched_at": sorted(told.answers),
        "alerts": [{"node": each.node, "evidence": each.evidence, "kin": each.kin} for each in (kin, far)],
        "silent_about": [mild.id],
    }


def _admitted(age: float, severity: int) -> Admission:
    return Admission("male", age, severity, int(time.time() // 86_400), "", (Hit("TLR7", "hemizygous", 0.0),))


def _next_alert(clinic: Clinic, number: int) -> tuple[Received, float]:
    """The newest alert of a clinician, when they have so many; and how long it took. ``Invalid`` for more."""
    started = time.perf_counter()

    def look() -> list[Received]:
        got = clinic.home.alerts.received(clinic.person)
        return got if len(got) >= number else []

    got = until(look)
    if len(got) != number:
        raise Invalid("an alert too many.", where="infection")
    return max(got, key=lambda each: each.at), time.perf_counter() - started
