"""Who may call a route, declared beside it. A test calls every route of every application as everybody and compares.

The declaration is read by that test (``tests/attacks/test_routes.py``) and by readers; the check itself is in the
route. A route without a declaration fails the test, so nobody opens a door without saying for whom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

from federome.model.registry import Role

Caller = Literal[
    "anyone",  # no token is needed
    "person",  # whoever proves to hold a person's key, or has logged in
    "owner",  # the person who submitted the run, and to everybody else it does not exist
    "reviewer",  # whom the run's output was given to, for judging
    "party",  # any member: nodes, the releaser
    "peer",  # a node of another network, with a key or token that this one gave it
    "asked",  # a node that the run asked, or the releaser
    "session",  # whoever is logged in at the portal
    "operator",  # whose login a node's portal.toml names, at that node's own portal
    "source",  # a program that keeps consents, with a token of a node's operator, at that node's own portal
    "citizen",  # whose account is in a node's table of citizens, at that node's own portal
    "own-clinician",  # a vetted clinician of a hospital that a node's portal.toml names, at that node's own portal
    "named",  # a registered person who has to do with the thing asked for; to everybody else it does not exist
    Role,  # whoever is logged in at the portal and has this role in the register
]
ATTRIBUTE: Final = "__open_to__"
Route = TypeVar("Route", bound=Callable[..., Any])


def open_to(*callers: Caller) -> Callable[[Route], Route]:
    """Declare who may call the route below; write it under the line that gives method and path."""

    def declared(route: Route) -> Route:
        setattr(route, ATTRIBUTE, frozenset(callers))
        return route

    return declared
