"""The secrets of all rounds of a run after the first: each follows from the one before, and never the other way.

The first round has keys of its own, since a node may be lost in it and its key is revealed then (``shares.py``).
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from federome.errors import Damaged, Refused
from federome.network.sums import (
    KEY_BYTES,
    PAD_KEY_BYTES,
    Pads,
    Roster,
    RoundKey,
    RoundKeys,
    check_announced,
    pads_with,
    pair_secret,
)
from federome.trust.canonical import Json, JsonValue

FIRST: Final = 1
"""The turn whose masks have round keys of their own: those of a node that is lost in it are revealed."""
LATER: Final = 2
"""The turn whose round keys all later masks follow from."""
_USE, _NEXT, _PAD = "federome masked sums ratchet 1", b"federome next round 1", b"federome masked sum 2"


@dataclass(frozen=True)
class Ratchet:
    """What one party shares with each of the others in one round, and from which each later round's follows.

    From the secrets of a round nobody can tell those of a round before: whoever takes them later cannot open what was
    sent then. ``secrets`` has 32 bytes by peer.
    """

    roster: str
    party: str
    round: int
    secrets: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def begin(cls, own: RoundKey, keys: RoundKeys) -> Ratchet:
        """Where it starts, at the round of these keys. ``Refused`` as for ``make_pads``; ``own`` is needed no more."""
        check_announced(own, keys)
        peers = [name for name in keys.publics if name != own.party]
        secrets = {peer: pair_secret(own, keys, peer, use=_USE, length=KEY_BYTES) for peer in peers}
        return cls(own.roster, own.party, own.round, secrets)

    def at(self, round: int) -> Ratchet:
        """The same for a later round. ``Refused`` (``wrong_state``) for one that is over: its secrets are gone."""
        if round < self.round:
            raise Refused("the secrets of that round were destroyed", codes=["wrong_state"])
        secrets = dict(self.secrets)
        for _ in range(self.round, round):
            secrets = {peer: hmac.digest(secret, _NEXT, "sha256") for peer, secret in secrets.items()}
        return Ratchet(self.roster, self.party, round, secrets)

    def pads(self, roster: Roster, *, lost: Collection[str] = ()) -> Pads:
        """This party's stream keys of the round, with everybody but the lost."""
        if roster.digest != self.roster:
            raise Refused("these secrets were agreed for another roster", codes=["token_invalid"], where=roster.run)
        keys = {peer: hmac.digest(secret, _PAD, "sha256")[:PAD_KEY_BYTES] for peer, secret in self.secrets.items()}
        return pads_with(roster, self.party, keys.keys() - set(lost), keys.__getitem__)

    def to_document(self) -> dict[str, Json]:
        """Everything, the secrets included: for the party's own protected storage only."""
        secrets: dict[str, Json] = {peer: secret.hex() for peer, secret in self.secrets.items()}
        return {"roster": self.roster, "party": self.party, "round": self.round, "secrets": secrets}

    @classmethod
    def from_document(cls, document: Mapping[str, JsonValue]) -> Ratchet:
        """What ``to_document`` made; ``Damaged`` when it is anything else."""
        match document:
            case {"roster": str() as roster, "party": str() as party, "round": int() as round, "secrets": dict() as of}:
                try:
                    secrets = {str(peer): bytes.fromhex(str(secret)) for peer, secret in of.items()}
                except ValueError:
                    secrets = {"": b""}
                if all(len(secret) == KEY_BYTES for secret in secrets.values()):
                    return cls(roster, party, round, secrets)
        raise Damaged("stored secrets of a run cannot be read", remedy="Fail the run; never agree on others.")
