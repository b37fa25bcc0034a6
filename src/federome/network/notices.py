"""The authority's notices at a node: fetched by itself, from the hub and from the authority, and never too old.

A hub that keeps a suspension or a newer member list back gains a few hours: a node that has seen a notice, or is told
where the authority publishes them, takes no new order once the newest one it has is older than the limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx2 as httpx

from federome.errors import FederomeError, Invalid, Refused, Unavailable
from federome.network.fetching import Bounds, fetch
from federome.network.files import replace_file
from federome.network.setup import hub_settings, pinned_authorities, read_members
from federome.trust.keys import PrivateKey
from federome.trust.members import MemberSource
from federome.trust.notice import Notice, sign_notice, verify_notice
from federome.trust.signing import peek

FILE: Final = "notice.jwt"
EVERY_S: Final = 300.0
TIMEOUT_S: Final = 10.0
HOUR: Final = 3600.0
Fetch = Callable[[], str]


class Notices:
    """The newest notice in a node's folder. ``sources`` are asked for newer ones; ``demanded`` even before the first.

    With no notice seen and none demanded, nothing is asked of a federation whose authority publishes none.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        sources: Sequence[Fetch] = (),
        *,
        limit_h: float = 48.0,
        demanded: bool = False,
    ) -> None:
        self._folder, self._clock, self._sources = folder, clock, sources
        self._limit_h, self._demanded = limit_h, demanded
        self._held: tuple[str, Notice, float] | None = None

    def refresh(self) -> None:
        """Ask every source; what is away, older or not the authority's changes nothing."""
        for source in self._sources:
            with suppress(FederomeError):
                self.take(source())

    def take(self, token: str) -> None:
        """Keep a notice that is newer than the one held. ``Refused`` for one that is older, or nobody's."""
        fresh, _ = verify_notice(token, pinned_authorities(self._folder), now=self._clock())
        held = self._version()
        if fresh.version < held:
            raise Refused("the notice is older than one seen before.", codes=["token_invalid"])
        if fresh.version > held:
            replace_file(self._folder / FILE, token.encode())

    def _version(self) -> int:
        """Of the one on disk, whoever signed it: its key may have ended since."""
        if not (token := self._token()):
            return 0
        said = peek(token).payload.get("notice")
        return int(str(said["version"])) if isinstance(said, dict) else 0

    def _token(self) -> str:
        path = self._folder / FILE
        return path.read_text() if path.is_file() else ""

    def newest(self) -> tuple[Notice, float] | None:
        """The notice held, and when it was signed. ``Refused`` if it does not stand up any more."""
        token = self._token()
        if not token:
            return None
        if self._held is None or self._held[0] != token:
            self._held = token, *verify_notice(token, pinned_authorities(self._folder), now=self._clock())
        return self._held[1:]

    def suspended(self) -> frozenset[str]:
        """Permits that the authority has suspended, by the newest notice."""
        held = self.newest()
        return frozenset(held[0].suspended) if held else frozenset()

    def check(self, members: MemberSource) -> None:
        """For a new order: ``Refused`` (``incomplete``) unless this node knows of the present what it must."""
        if self._missing() or self._late():
            self.refresh()
        if self._missing():
            raise _unknown("the authority's notice of suspended permits has not reached this node.")
        if self._late():
            raise _unknown(f"the authority's newest notice here is more than {self._limit_h:g} hours old.")
        if (held := self.newest()) is not None:
            members.at_least(held[0].members)
            if members.version < held[0].members:
                raise _unknown("the hub keeps the newest member list back.")

    def _missing(self) -> bool:
        return self._demanded and not self._token()

    def _late(self) -> bool:
        held = self.newest()
        return held is not None and self._clock() - held[1] > self._limit_h * HOUR

    def watch(self, ended: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Ask again and again until the node ends."""
        while True:
            self.refresh()
            if ended.wait(every_s):
                return


def _unknown(says: str) -> Refused:
    return Refused(
        f"{says[0].upper()}{says[1:]} No new order is taken until then.",
        codes=["incomplete"],
        remedy="Put notice.jwt and members.jwt of the authority into the node's folder, or set authority_url.",
    )


def published(url: str, name: str, *, patience_s: float = TIMEOUT_S) -> Fetch:
    """A file that an authority publishes below its own address, fetched within bounds of size and time."""

    def fetched() -> str:
        try:
            with httpx.Client() as http:
                bounds = Bounds("the authority", patience_s)
                return fetch(f"{url.rstrip('/')}/{name}", http=http, bounds=bounds).decode("ascii")
        except (Invalid, UnicodeDecodeError) as error:
            raise Unavailable("the authority publishes something else.", where=url) from error

    return fetched


def give_notice(
    folder: Path, key: PrivateKey, *, now: float, suspend: Collection[str] = (), lift: Collection[str] = ()
) -> Notice:
    """Sign the next notice into a hub's folder, for it to hand out. For the authority's hand."""
    path = folder / FILE
    authority = hub_settings(folder).authority
    earlier = (
        verify_notice(path.read_text(), pinned_authorities(folder), now=now)[0] if path.is_file() else Notice(0, 0)
    )
    suspended = sorted((set(earlier.suspended) | set(suspend)) - set(lift))
    notice = Notice(earlier.version + 1, read_members(folder, now=now).version, tuple(suspended))
    replace_file(path, sign_notice(notice, key, authority=authority, now=now).encode())
    return notice
