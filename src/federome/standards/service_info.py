"""GA4GH service-info 1.0: how each of our faces says what it is and who runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from federome import __version__
from federome.errors import FederomeError
from federome.trust.canonical import Json

DOCUMENTATION: Final = "https://github.com/federome/federome/tree/main/docs/reference"


@dataclass(frozen=True)
class Operator:
    """Who runs a service. ``id`` is a domain in reverse notation (``eu.example.hub``), ``contact`` a URL or mailto.

    ``told`` is what else the service says of itself.
    """

    id: str
    name: str
    organization: str
    organization_url: str
    contact: str = ""
    environment: str = "prod"
    told: Callable[[], Mapping[str, Json]] = dict


def tested(checks: Mapping[str, Callable[[], object]]) -> dict[str, Json]:
    """What a service's test of itself found just now; a check passes if it raises nothing."""
    told: list[Json] = []
    for name, check in checks.items():
        try:
            check()
            told.append({"name": name, "passed": True})
        except FederomeError as failure:
            told.append({"name": name, "passed": False, "says": failure.message})
    return {"passed": all(isinstance(each, dict) and each["passed"] is True for each in told), "checks": told}


def service_info(
    operator: Operator,
    *,
    artifact: str,
    version: str,
    description: str,
    capabilities: Mapping[str, Json],
    self_test: Mapping[str, Json],
) -> dict[str, Json]:
    """The document of one service; ``artifact`` and ``version`` name the GA4GH specification it implements.

    Beyond the specification: ``capabilities``, what can be asked of it, and ``selfTest``, what :func:`tested` found.
    """
    document: dict[str, Json] = {
        **operator.told(),
        "id": f"{operator.id}.{artifact}",
        "name": operator.name,
        "type": {"group": "org.ga4gh", "artifact": artifact, "version": version},
        "description": description,
        "organization": {"name": operator.organization, "url": operator.organization_url},
        "documentationUrl": f"{DOCUMENTATION}/{artifact}.md",
        "environment": operator.environment,
        "version": __version__,
        "capabilities": dict(capabilities),
        "selfTest": dict(self_test),
    }
    return document | ({"contactUrl": operator.contact} if operator.contact else {})
