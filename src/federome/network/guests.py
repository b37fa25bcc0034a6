"""Who asks a face, by a GA4GH passport: nobody in particular, a registered researcher, a holder of grants.

The node's own ``access.toml`` says whose passports and visas count. A passport that is shown and does not stand up is
refused: whoever sends one wants to be somebody, and should learn why they are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from federome.errors import Refused
from federome.governance.passports import GRANTS, check_visas, open_passport, registered_access
from federome.model.discovery import Guest
from federome.network.access import NodeAccess


@dataclass(frozen=True)
class Guests:
    """``node`` is the audience that passports may name. A grant's value is ``urn:federome:NODE:DATASET`` or the
    dataset's address below ``url``.
    """

    access: NodeAccess
    node: str
    url: str
    clock: Callable[[], float]

    def __call__(self, authorization: str) -> Guest:
        """Who sent this header; an empty one is nobody. ``Refused`` for a passport that does not stand up."""
        if not authorization:
            return Guest()
        scheme, _, token = authorization.partition(" ")
        keys = self.access.anchors().keys
        if scheme.lower() != "bearer" or not token.strip() or keys is None:
            raise Refused("a passport is sent as: Authorization: Bearer …", codes=["token_invalid"])
        trust, now = self.access.policy().clearinghouse, datetime.fromtimestamp(self.clock(), UTC)
        holder, visas = open_passport(token.strip(), trust, keys, now=now, audience=self.node)
        view = check_visas(visas, holder, trust, keys, now=now, ttl=timedelta(0), audience=self.node)
        registered, _ = registered_access(view, trust)
        values = {visa.value for visa in view.visas if visa.type == GRANTS and visa.by in trust.grants_by}
        heads = (f"urn:federome:{self.node}:", f"{self.url}/datasets/")
        datasets = {value.removeprefix(head) for value in values for head in heads if value.startswith(head)}
        account = hashlib.sha256(f"{holder.iss}\n{holder.sub}".encode()).hexdigest()
        return Guest(account, registered is not None, frozenset(datasets))
