"""The demonstration's clinician in a browser: a patient at her own node, whose second case is in another nation.

After the scenes, with ``--keep``: matching stays open at three nodes, the register there knows everybody who can log
in, and a clinician abroad has asked to be put in touch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from federome.demo.care import Clinics, clinics
from federome.demo.rare_disease import ASKED, SECOND
from federome.demo.stage import Stage, plain
from federome.errors import Invalid, Unavailable
from federome.model.permit import PersonKey
from federome.network.access import REGISTER, Register, install_register, read_register
from federome.network.cases import Case
from federome.trust.keys import generate, save_private_key

CLINICIAN: Final = "clara"
CASE: Final = "girl-of-seven"
KEY: Final = "clara.jwk"
CONTRACT: Final = "contract.jwt"


def open_clinic(stage: Stage) -> None:
    """Give Clara her case, her key and the contract; what keeps it from being so is said instead."""
    try:
        with clinics(stage) as open_:
            abroad = _prepared(open_)
            known = read_register((stage.federation.node_folder(open_.nodes[0]) / REGISTER).read_text())
    except Unavailable as error:
        stage.console.print(f"  [yellow]no case for the clinician:[/] {plain(str(error))}")
        return
    root = stage.federation.root
    key = generate("ES256")
    save_private_key(key, root / KEY)
    (root / CONTRACT).write_text(open_.contract)
    hub = read_register((root / "hub" / REGISTER).read_text())
    clara = next(one for one in hub.persons if one.id == CLINICIAN)
    people = (*(one for one in hub.persons if one is not clara), replace(clara, key=PersonKey.of(key.public.jwk())))
    hospitals = {one.id for one in known.institutions}
    others = (one for one in hub.institutions if one.id not in hospitals)
    everybody = Register((*people, *known.persons), (*others, *known.institutions))
    for node in stage.federation.nodes:
        install_register(stage.federation.node_folder(node), json.dumps(everybody.to_document()))
    stage.facts.stories["clinic"] = {
        "case": CASE,
        "second_case_at": abroad,
        "datasets": [f"{clinic.node}:{clinic.dataset}" for clinic in open_.clinics],
    }


def _prepared(open_: Clinics) -> str:
    """Clara's case, and the contact that a clinician abroad asks for about it; where that is."""
    mine, second, _ = open_.clinics
    case = Case(CASE, CLINICIAN, mine.dataset, replace(ASKED, id=CASE), subject=f"{mine.node} {CASE}")
    mine.home.desk.book.register(case, mine.home.desk.measure)
    theirs = second.register(SECOND)
    with open_.asker(second, theirs) as asker:
        merged = asker.match([mine.node], second.home.desk.measure, second.home.desk.background, top=5)
        for match in merged.matches:  # the case of the story is as like it as Clara's
            asker.contact(match.node, match.handle, yes=True, address=second.address)
    if not mine.home.desk.waiting(CLINICIAN):
        raise Invalid("nobody abroad has found the clinician's case.", where=mine.node)
    return second.node


def told(stage: Stage) -> Sequence[str]:
    """What is said of it at the end."""
    story = stage.facts.stories.get("clinic")
    if not isinstance(story, dict):
        return ()
    root = stage.federation.root
    return (
        f"  Clara's patient is {story['case']}; ask {', '.join(story['datasets'])}. Her key and contract, for",
        f"  federome match send: {root / KEY} and {root / CONTRACT}",
    )
