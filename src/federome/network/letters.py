"""What the hub does for sealed letters: carry them, wait for answers, hand them back. It can read none of them.

A person's letters (one for each node, with an order each) are a run without sums: the nodes decide, answer once, and
the run ends when all have answered or the deadline has come, with whoever is late or refuses by name. A node's letter
to another node (an alert) waits at the hub until that node takes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from federome.errors import Invalid
from federome.network.ledger import PARTY, Answered, Due, Run
from federome.network.protocol import MAX_LETTER_BYTES, Body

METHOD: Final = "patient-match"
"""Orders for this method are carried as letters (``match_question.py`` has the rest of it)."""
RELAYING: Final = "relaying"
KEPT_S: Final = 30 * 86_400.0
_SEALED: Final = re.compile(r"[A-Za-z0-9_.-]+")
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,80}")


def enveloped(papers: Mapping[str, Body], sealed: Mapping[str, str]) -> list[Due]:
    """The tasks of a person's letters: what each node is shown (``papers``), and its envelope where there is one.

    ``Invalid`` for an envelope that is for nobody here, or none.
    """
    for node, token in sealed.items():
        if node not in papers:
            raise Invalid("a letter is for a node that no order is for.", where=node[:40])
        _check(token)
    return [
        Due("letter", node, {**shown, **({"sealed": sealed[node]} if node in sealed else {})})
        for node, shown in papers.items()
    ]


def carried(sender: str, to: str, name: str, sealed: str, *, now: float) -> tuple[Run, Due]:
    """One node's letter to another, as a run of its own that belongs to no person."""
    _check(sealed)
    if not _NAME.fullmatch(name):
        raise Invalid("this is no name for a letter.", where=name[:80])
    detail: Body = {"asked": [to], "absent": {}, "resumed": False, "events": [], "turn": 0}
    run = Run(f"letter-{sender}-{name}", f"{PARTY}{sender}", RELAYING, 1, now, None, now + KEPT_S, detail)
    return run, Due("letter", to, {"from": sender, "sealed": sealed})


def returned(answers: Sequence[Answered], late: Body) -> tuple[Body, Body]:
    """(result, absent): what came back, sealed as it is, and who refused or is late."""
    told: Body = {a.party: a.reply.get("sealed") for a in answers if a.done and "refused" not in a.reply}
    absent: Body = {a.party: a.reply["refused"] if a.done else late for a in answers if a.party not in told}
    return {"mode": "letters", "tables": {}, "answers": told}, absent


def _check(sealed: str) -> None:
    if len(sealed) > MAX_LETTER_BYTES or not _SEALED.fullmatch(sealed):
        raise Invalid("this is no sealed letter.", where="sealed")
