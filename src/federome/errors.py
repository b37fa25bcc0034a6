"""The one exception tree, and its single mapping to exit codes and RFC 9457 problem documents.

Everything a person can cause or meet is one of three kinds; whatever else is raised is a bug.

    FederomeError
    ├── Refused      not permitted: names the rule and every reason code
    ├── Invalid      the user's own mistake: says where, and how to mend it
    └── Unavailable  somebody we need is away, late or damaged; trying again may help

Messages are shown to people and written to logs: they never hold a row, a genotype or a sample name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

ProblemValue = str | int | list[str]


class FederomeError(Exception):
    """Base of every expected failure.

    ``message`` is one sentence for a person; ``remedy`` is what to type or do next; ``where`` is a file,
    line, field or node. ``exit_code`` follows sysexits.h, ``status`` is the HTTP status.
    """

    kind: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, remedy: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} {self.remedy}" if self.remedy else text

    def problem(self) -> dict[str, ProblemValue]:
        """The RFC 9457 problem document (media type ``application/problem+json``)."""
        body: dict[str, ProblemValue] = {
            "type": f"urn:federome:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.message,
        }
        if self.remedy:
            body["remedy"] = self.remedy
        if self.where:
            body["where"] = self.where
        return body


class Refused(FederomeError):
    """Not permitted. ``codes`` lists every failing reason code of the access scenarios, in a fixed order."""

    kind = "refused"
    title = "Refused"
    status = 403
    exit_code = 77

    def __init__(self, message: str, *, codes: Iterable[str], remedy: str = "", where: str = "") -> None:
        super().__init__(message, remedy=remedy, where=where)
        self.codes = tuple(codes)
        if not self.codes:
            raise ValueError("a refusal names at least one reason code")

    def problem(self) -> dict[str, ProblemValue]:
        """The problem document with its reason codes."""
        return super().problem() | {"codes": list(self.codes)}


class Invalid(FederomeError):
    """The input is wrong; ``where`` names the file and line or the field, ``remedy`` how to mend it."""

    kind = "invalid"
    title = "Invalid input"
    status = 400
    exit_code = 65


class Missing(Invalid):
    """There is no such thing here, or it is somebody else's: which of the two is not told."""

    title = "Not found"
    status = 404


class Damaged(Invalid):
    """Stored bytes do not match what was written (truncated, flipped, mislabelled): nothing is computed from them."""

    kind = "damaged"
    title = "Damaged data"
    status = 500
    exit_code = 74


class Unavailable(FederomeError):
    """A node, service or file is away or late; the same call may succeed later."""

    kind = "unavailable"
    title = "Not available now"
    status = 503
    exit_code = 69


def from_problem(body: dict[str, ProblemValue]) -> FederomeError:
    """Rebuild the error that a remote party reported, so that a refusal far away reads like one at home."""
    kinds: dict[str, type[FederomeError]] = {c.kind: c for c in (Invalid, Damaged, Unavailable)}
    kind = str(body.get("type", "")).rpartition(":")[2]
    message, remedy, where = (str(body.get(key, "")) for key in ("detail", "remedy", "where"))
    if kind == Refused.kind:
        codes = body.get("codes")
        listed = [str(code) for code in codes] if isinstance(codes, list) and codes else ["unspecified"]
        return Refused(message, codes=listed, remedy=remedy, where=where)
    return kinds.get(kind, FederomeError)(message, remedy=remedy, where=where)
