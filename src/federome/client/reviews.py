"""Output review from afar: a checker's, or an asker's, view of results that wait at a hub."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import httpx2 as httpx

from federome.client.wire import Wire, open_http, read_document
from federome.errors import Invalid
from federome.trust.canonical import Json, canonical
from federome.trust.keys import PrivateKey, load_private_key
from federome.trust.people import sign_vote

PATIENCE_S = 10.0


class Reviews:
    """A context manager. ``key`` is a checker's, or that of whoever asked."""

    def __init__(
        self,
        url: str,
        *,
        key: Path | PrivateKey,
        certificate: Path | None = None,
        clock: Callable[[], float] = time.time,
        http: httpx.Client | None = None,
    ) -> None:
        self._key = key if isinstance(key, PrivateKey) else load_private_key(key)
        self._wire = Wire(http or open_http(url, certificate), key=self._key, clock=clock, owned=http is None)
        tags = self._wire.document("GET", "/service-info", patience_s=PATIENCE_S).get("tags")
        self._wire.hub = str(tags.get("hub")) if isinstance(tags, dict) else ""
        if not self._wire.hub:
            raise Invalid("this is no Federome hub.", remedy="Check the address.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()

    def listed(self) -> list[dict[str, Json]]:
        """Results that wait: all, for a checker; else one's own."""
        told = self._wire.document("GET", "/reviews", patience_s=PATIENCE_S).get("reviews")
        return [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []

    def show(self, run: str) -> dict[str, Json]:
        """One of them, with its files' digests and all that was said."""
        return self._wire.document("GET", f"/reviews/{quote(run, safe='')}", patience_s=PATIENCE_S)

    def table(self, run: str, file: str) -> str:
        """A file of it as CSV; for checkers."""
        path = f"/reviews/{quote(run, safe='')}/tables"
        return self._wire.call("GET", path, patience_s=PATIENCE_S, params={"file": file}).decode()

    def vote(
        self, run: str, act: Literal["approve", "reject", "comment"], reasons: str, files: str = ""
    ) -> dict[str, Json]:
        """Sign for or against files of this digest (else of what is shown now), or comment on them."""
        files = files or str(self.show(run).get("files_digest"))
        return self._post("/reviews/votes", {"vote": sign_vote(run, files, act, reasons, self._key)})

    def contest(self, run: str, reasons: str) -> dict[str, Json]:
        """Ask two other checkers, after a rejection of one's own result."""
        return self._post(f"/reviews/{quote(run, safe='')}/contest", {"reasons": reasons})

    def _post(self, path: str, body: dict[str, Json]) -> dict[str, Json]:
        return read_document(self._wire.call("POST", path, patience_s=PATIENCE_S, content=canonical(body)))
