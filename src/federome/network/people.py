"""How a person shows who asks: a token for the hub (``trust/people.py``), and a passport for the nodes.

The passport travels with the run, sealed to each node by the person's own machine: the hub hands on what it cannot
read. A node opens it for the run it was sealed for, and believes what the broker signed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from federome.errors import Invalid, Refused
from federome.governance.evidence import Presented
from federome.trust.canonical import Json
from federome.trust.people import check_person as check_person
from federome.trust.people import person_token as person_token

MAX_SHOWN_BYTES: Final = 1 << 20
"""Everything of one passport together: two hundred visas of a few kilobytes."""
MAX_TRAVELLING_BYTES: Final = 2 * MAX_SHOWN_BYTES
"""The same sealed, in base64."""


def read_sealed(shown: Json, nodes: Mapping[str, object]) -> dict[str, str]:
    """A passport as it reaches the hub: ``{"sealed": {NODE: JWE}}``, one for each node; ``Invalid`` for all else."""
    match shown:
        case {"sealed": dict() as sealed, **rest} if not rest and sealed.keys() == set(nodes):
            if all(isinstance(one, str) and len(one) <= MAX_TRAVELLING_BYTES for one in sealed.values()):
                return {node: str(one) for node, one in sealed.items()}
    raise Invalid(
        "a passport travels sealed, once for each node that is asked.",
        where="passport",
        remedy='Send {"sealed": {NODE: JWE}}: see docs/reference/wes.md.',
    )


def read_passport(shown: Json) -> dict[str, Json]:
    """A passport as a node unseals it: a broker's ``{"token": …}``, or ``{"visas": […]}``; ``Invalid`` for all else."""
    match shown:
        case {"token": str() as token, **rest} if not rest and len(token) <= MAX_SHOWN_BYTES:
            return {"token": token}
        case {"visas": list() as visas, **rest} if not rest and all(isinstance(visa, str) for visa in visas):
            if sum(len(str(visa)) for visa in visas) <= MAX_SHOWN_BYTES:
                return {"visas": visas}
    raise Invalid("a passport is a broker's token or a list of visas, one megabyte at most.", where="passport")


def presented(order: str, grant: str, sealed: Json, unseal: Callable[[str], Json]) -> Presented:
    """What a node was shown for a run. ``Refused`` where ``sealed`` is no passport for it at all."""
    if sealed is None:
        return Presented(order=order, grant=grant)
    try:
        told = read_passport(unseal(sealed if isinstance(sealed, str) else ""))
    except Invalid as error:
        raise Refused(error.message, codes=["token_invalid"], where="passport") from error
    token, visas = told.get("token"), told.get("visas")
    return Presented(
        order=order,
        grant=grant,
        passport=str(token) if token is not None else None,
        visas=tuple(str(visa) for visa in visas) if isinstance(visas, list) else (),
    )
