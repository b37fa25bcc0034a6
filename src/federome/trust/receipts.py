"""What a receipt proves: that a node recorded its signed word on one run in its log, checked by anybody, offline.

A node writes one entry per step of a run, with digests only. The entry of its last step names the statement it gave;
the receipt shows that this entry is in the log that its checkpoint commits to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from federome.errors import Invalid, Refused
from federome.trust.canonical import Json, JsonValue, canonical, digest_bytes, parse_object
from federome.trust.keys import KeyRing, PublicKey
from federome.trust.log import Receipt, verify_receipt
from federome.trust.notes import Checkpoint, open_by_any

ENDINGS: Final = ("conclude", "alone")


def origin_of(party: str) -> str:
    """The name of a party's log in checkpoints: one word, whatever the party is called."""
    return f"federome.log/{quote(party, safe='')}"


def log_entry(*, at: float, run: str, what: str, detail: Mapping[str, JsonValue]) -> bytes:
    """One entry: when (Unix seconds), which run, which step, and digests. Canonical JSON."""
    return canonical({**detail, "at": int(at) if at.is_integer() else at, "run": run, "what": what})


def check_receipt(
    document: Mapping[str, JsonValue], ring: KeyRing, *, party: str, run: str, statement: str, now: float
) -> Checkpoint:
    """The checkpoint on which a party's receipt for its ``statement`` about a run rests.

    ``Refused`` when the receipt is malformed, of another log, run or statement, or no key in ``ring`` is the party's;
    ``Damaged`` when the entry is not in the log.
    """
    try:
        receipt = Receipt.from_document(document)
        entry = parse_object(receipt.entry)
    except Invalid as error:
        raise Refused("a receipt cannot be read.", codes=["token_invalid"], where=party) from error
    expected = (run, digest_bytes(statement.encode()))
    if (entry.get("run"), entry.get("statement")) != expected or entry.get("what") not in ENDINGS:
        raise Refused("a receipt is for something else than this answer.", codes=["token_invalid"], where=party)
    keys = ring.owned_by(party, now=now)
    if not keys:
        raise Refused("no key of this party is known.", codes=["issuer_untrusted"], where=party)
    return verify_by_any(receipt, party=party, keys=keys)


def verify_by_any(receipt: Receipt, *, party: str, keys: Sequence[PublicKey]) -> Checkpoint:
    """The checkpoint on which a receipt of a party rests, whose keys follow one another; refusals as above."""
    origin = origin_of(party)
    _, key = open_by_any(receipt.checkpoint, origin=origin, keys=keys)
    return verify_receipt(receipt, origin=origin, key=key)


def statement_digest(body: Mapping[str, Json]) -> dict[str, Json]:
    """The member of an entry that ties it to the signed statement of a reply, if the reply has one."""
    said = body.get("statement")
    return {"statement": digest_bytes(said.encode())} if isinstance(said, str) else {}
