"""How a person shows who asks: a token for the hub (``trust/people.py``), and a passport for the nodes.

The passport travels with the run, as the broker signed it; hub and coordinator hand it on and believe nothing in it.
"""

from __future__ import annotations

from typing import Final

from federome.errors import Invalid, Refused
from federome.governance.evidence import Presented
from federome.trust.canonical import Json
from federome.trust.people import check_person as check_person
from federome.trust.people import person_token as person_token

MAX_SHOWN_BYTES: Final = 1 << 20
"""Everything of one passport together: two hundred visas of a few kilobytes."""


def read_passport(shown: Json) -> dict[str, Json]:
    """A passport as it travels: ``{"token": …}``, a broker's, or ``{"visas": […]}``; ``Invalid`` for all else."""
    match shown:
        case {"token": str() as token, **rest} if not rest and len(token) <= MAX_SHOWN_BYTES:
            return {"token": token}
        case {"visas": list() as visas, **rest} if not rest and all(isinstance(visa, str) for visa in visas):
            if sum(len(str(visa)) for visa in visas) <= MAX_SHOWN_BYTES:
                return {"visas": visas}
    raise Invalid(
        "a passport is a broker's token or a list of visas, one megabyte at most.",
        where="passport",
        remedy='Send {"token": …} or {"visas": […]}.',
    )


def presented(order: str, grant: str, shown: Json) -> Presented:
    """What a node was shown for a run. ``Refused`` where ``shown`` is no passport at all."""
    if shown is None:
        return Presented(order=order, grant=grant)
    try:
        told = read_passport(shown)
    except Invalid as error:
        raise Refused(error.message, codes=["token_invalid"], where="passport") from error
    token, visas = told.get("token"), told.get("visas")
    return Presented(
        order=order,
        grant=grant,
        passport=str(token) if token is not None else None,
        visas=tuple(str(visa) for visa in visas) if isinstance(visas, list) else (),
    )
