"""What a node keeps of a run between its rounds: documents, index blocks, the shared state, its own parts."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from federome.analysis.algorithm import DONE, State
from federome.errors import Refused
from federome.model.index import BlockIndex, named_blocks
from federome.model.table import Table
from federome.network import words
from federome.network.protocol import Body, mapping, text
from federome.network.question import OpenSite, Question
from federome.trust.canonical import digest_bytes

if TYPE_CHECKING:
    from federome.network.node import Node

TOLERANCE: Final = 1e-9
SMALL_STATE: Final = 1 << 12


def folder(node: Node, run: str) -> Path:
    """Where a run keeps its files at this node."""
    return node.folder / hashlib.sha256(run.encode()).hexdigest()[:40]


def keep(node: Node, question: Question, name: str, table: Table) -> None:
    """Keep a table of a run under a name until the run ends."""
    place = folder(node, question.order.run)
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{name}"
    temporary.write_bytes(table.to_bytes())
    temporary.replace(place / name)


def kept(node: Node, question: Question, name: str) -> Table:
    """A table that was kept; ``Refused`` (``wrong_state``) if there is none."""
    path = folder(node, question.order.run) / name
    if not path.is_file():
        raise Refused("this step comes before the one it builds on.", codes=["wrong_state"])
    return Table.from_bytes(path.read_bytes())


def document(node: Node, question: Question, role: str) -> Table:
    """A document of the releaser's command, checked against the digest it signed."""
    assert question.command is not None
    name = question.command.documents.get(role)
    if name is None:
        raise Refused("a command lacks a document it needs.", codes=["token_invalid"])
    data = question.task.attachments.get(f"document/{name}")
    if data is None:
        data = node.port.download(question.order.run, f"document/{name}")
    if digest_bytes(data) != name:
        raise Refused("a document is not the one the releaser signed.", codes=["token_invalid"])
    return Table.from_bytes(data)


def block_of(node: Node, question: Question, site: OpenSite, part: int) -> BlockIndex:
    """A block of the common index: from the question itself, or as agreed by tokens and kept here."""
    variants = question.algorithm.reads.variants
    assert variants is not None
    if variants.named:
        return named_blocks(variants.named)[part]
    site.use(words.token_key(node, question))
    path = folder(node, question.order.run) / f"block-{part}"
    if not path.is_file():
        data = node.port.download(question.order.run, f"block/{part}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").replace(path)
    return BlockIndex.from_table(part, Table.from_bytes(path.read_bytes()))


def state_of(node: Node, question: Question, part: int) -> Table | None:
    """What the releaser says of a block; of its rows only those that passed the last gate may take part."""
    assert question.command is not None
    if f"state/{part}" not in question.command.documents:
        return None
    state = document(node, question, f"state/{part}")
    passed = folder(node, question.order.run) / f"shown-{part}"
    if passed.is_file() and not np.isin(state.ints("row"), kept(node, question, passed.name).ints("row")).all():
        raise Refused("variants that did not pass the gate were asked for again.", codes=["small_cell"])
    return state


def shared_state(node: Node, question: Question) -> Table:
    """The shared state: the algorithm's first one, the one before, or what its step makes of the total that is shown.

    So a releaser cannot put numbers of its own choice in the place of a step.
    """
    assert question.command is not None
    command, run = question.command, question.order.run
    shared = document(node, question, "shared")
    states = words.detail(node, run).get("states")
    held = states if isinstance(states, dict) else {}
    earlier = [int(turn) for turn in held if int(turn) < command.turn]
    if "total" in command.documents and earlier:
        before = mapping(held, str(max(earlier)))
        state = State(text(before, "round"), _kept_state(node, question, before))
        stepped = question.algorithm.step(state, document(node, question, "total"))
        if stepped.round not in (command.round, DONE) or not _same(stepped.shared, shared):
            raise Refused(
                "the releaser's step is not what the algorithm computes.", codes=["algorithm_digest_mismatch"]
            )
    elif earlier:
        if text(mapping(held, str(max(earlier))), "shared") != command.documents["shared"]:
            raise Refused("the shared state changed, and no total shows why.", codes=["algorithm_digest_mismatch"])
    elif not _same(question.algorithm.start().shared, shared):
        raise Refused("the run does not begin as its algorithm does.", codes=["algorithm_digest_mismatch"])
    kept = {str(max(earlier)): held[str(max(earlier))]} if earlier else {}  # a turn may be asked for again
    told = _keep_state(node, question, shared)
    node.notebook.update(run, words.detail(node, run) | {"states": {**kept, str(command.turn): told}})
    return shared


def shared_last(node: Node, question: Question) -> Table:
    """The shared state of the round that this node contributed to last."""
    states = words.detail(node, question.order.run).get("states")
    held = states if isinstance(states, dict) else {}
    if not held:
        raise Refused("this step comes before the one it builds on.", codes=["wrong_state"])
    return _kept_state(node, question, mapping(held, str(max(map(int, held)))))


def _keep_state(node: Node, question: Question, shared: Table) -> Body:
    """What the notebook says of a shared state: all of it if it is small, else where it is."""
    assert question.command is not None
    told: Body = {"round": question.command.round, "shared": question.command.documents["shared"]}
    data = shared.to_bytes()
    if len(data) <= SMALL_STATE:
        return {**told, "table": b64encode(data).decode()}
    keep(node, question, f"shared-{text(told, 'shared')[-16:]}", shared)
    return told


def _kept_state(node: Node, question: Question, told: Body) -> Table:
    if "table" in told:
        return Table.from_bytes(b64decode(text(told, "table")))
    return kept(node, question, f"shared-{text(told, 'shared')[-16:]}")


def _same(one: Table, other: Table) -> bool:
    """Equal but for rounding: two machines may differ in the last bits of a linear solve."""
    if tuple(one.columns) != tuple(other.columns):
        return False
    return all(
        np.array_equal(one[name], other[name])
        or (
            one[name].shape == other[name].shape
            and one[name].dtype.kind in "if"
            and np.allclose(one.floats(name), other.floats(name), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        )
        for name in one.columns
    )
