"""The desk under kill -9: no draft, decision or notice is lost, none is told twice, no e-mail goes out twice.

A child process does a journey and mails what is due; it is killed at a random moment and started again until done.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.unit.network.test_desk import ANSWERS, PEOPLE, SETTINGS, World

from federome.network.outbox import Outbox

KILLS = 20
STEPS = (
    ("sofia", "sign-off", {}),
    ("alice", "submit", {"version": 1}),
    ("otto", "accept", {}),
    ("heidi", "vote", {"vote": "for"}),
    ("hugo", "vote", {"vote": "for"}),
    ("heidi", "recommend", {}),
    ("nina", "agree", {"node": "FI"}),
    ("pedro", "agree", {"node": "ES"}),
    ("sofia", "sign", {"node": None}),
    ("nina", "sign", {"node": "FI"}),
    ("pedro", "sign", {"node": "ES"}),
)


def journey(folder: Path, rounds: int) -> None:
    """Do every step of some applications, each under an id of its own, so that starting again repeats nothing."""
    world = World(folder)

    def send(message: EmailMessage) -> None:
        with (folder / "sent").open("a") as file:
            file.write(f"{message['Message-ID']}\n")

    outbox = Outbox(world.desk.book, SETTINGS.contacts, "portal@hub.test", "https://hub.test", send)
    for at in range(rounds):
        application = world.desk.open("permit", PEOPLE["alice"], once=f"open-{at}").opened.id
        if not world.desk.book.find(application).content:
            world.desk.save(application, PEOPLE["alice"], ANSWERS, once=f"save-{at}", seen=0)
        for number, (who, act, more) in enumerate(STEPS):
            world.desk.do(application, PEOPLE[who], act, once=f"{at}-{number}", **more)
            outbox.flush()
    (folder / "finished").touch()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_twenty_kills_lose_nothing_and_tell_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(12)
    killed, rounds = 0, 0
    while killed < KILLS or not (tmp_path / "finished").exists():
        (tmp_path / "finished").unlink(missing_ok=True)
        rounds += killed < KILLS  # always something left to do while there are kills to come
        child = os.fork()
        if child == 0:
            try:
                journey(tmp_path, rounds)
            finally:
                os._exit(0 if (tmp_path / "finished").exists() else 1)
        if killed < KILLS:
            time.sleep(chance.uniform(0.02, 0.25))
            os.kill(child, signal.SIGKILL)
            killed += 1
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    world = World(tmp_path)
    found = world.desk.book.all()
    assert len(found) == rounds
    for application in found:
        done = [(event.actor, event.act) for event in application.events if event.actor != "clock"]
        assert done == [("alice", "save"), *((who, act) for who, act, _ in STEPS)]
        assert application.state == "preparation"
        told = Counter((n.application, n.subject) for n in world.desk.book.notices("nina", limit=10_000))
        assert told[application.opened.id, "the committee recommends approval"] == 1
    sent = (tmp_path / "sent").read_text().split()
    assert len(set(sent)) == len(sent)
    mails = world.desk.book.mails()
    assert mails.get("due", 0) == 0
    assert mails["sent"] <= len(sent) <= mails["sent"] + mails.get("sending", 0)
    assert mails.get("sending", 0) <= KILLS
