"""Standing questions on the published TLR7 families as scripted cases: brothers, a stranger, crashes, withdrawal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.analysis.test_matching import LEAVES, MEASURE

from federome.analysis.matching import Background
from federome.db import engine
from federome.errors import Invalid, Unavailable
from federome.model.patient import Patient
from federome.network.alerts import RETRY_S, Alerts, Message, Standing

NOW = 1_900_000_000.0
# Young men with severe COVID-19 and X-linked loss of function of TLR7: two families and an unrelated man
# (JAMA 2020, PMC7382021; Front Immunol 2021;12:719115). Terms are stand-ins of the test ontology.
SEVERE = tuple(LEAVES[250:254])
FIRST = Patient("brother-30", SEVERE, genes=("TLR7",), group="family-1")
SECOND = Patient("brother-27", SEVERE[:3], genes=("TLR7",), group="family-1")
ABROAD = Patient("brother-28", (*SEVERE[:2], LEAVES[260]), genes=("TLR7", "TTN"), group="family-2")
OTHERS = [Patient(f"o{i}", (LEAVES[100 + i],), genes=("TTN",)) for i in range(20)]
RATES = Background({"TTN": 0.5}, 0.001, "test")


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


class Post:
    """A channel that fails on demand."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.down = False

    def __call__(self, message: Message) -> None:
        if self.down:
            raise Unavailable("the post is down")
        self.taken.append(message)


def standing(patient: Patient = FIRST, **more: object) -> Standing:
    made = Standing(patient.id, "clinician", "permit1", patient, "immediate", "post", NOW + 1000)
    return replace(made, **more)  # type: ignore[arg-type]


def alerts(clock: Clock, *, url: str = "sqlite://", permitted: bool = True) -> Alerts:
    return Alerts(engine(url), MEASURE, RATES, threshold=7.0, permitted=lambda _permit: permitted, clock=clock)


def test_the_brother_is_told_as_family_and_the_stranger_abroad_as_new() -> None:
    post, here = Post(), alerts(Clock())
    here.register(standing())
    assert here.arrived([FIRST, *OTHERS]) == 0
    assert here.arrived([SECOND]) == 1 and here.deliver({"post": post}) == 1
    assert here.arrived([ABROAD]) == 1 and here.deliver({"post": post}) == 1
    assert [(m.question, m.evidence, m.family) for m in post.taken] == [
        ("brother-30", "gene", True),
        ("brother-30", "gene", False),
    ]


def test_said_once_and_again_only_when_evidence_rises() -> None:
    clock, post = Clock(), Post()
    here = Alerts(engine("sqlite://"), MEASURE, RATES, threshold=5.0, permitted=lambda _p: True, clock=clock)
    here.register(standing())
    bare = replace(SECOND, observed=SEVERE, genes=())
    assert here.arrived([bare]) == 1 and here.arrived([bare]) == 0
    assert here.arrived([SECOND]) == 1 and here.arrived([SECOND, bare]) == 0
    here.deliver({"post": post})
    assert sorted(m.evidence for m in post.taken) == ["gene", "phenotype"]


def test_a_message_outlives_a_crash_and_a_channel_that_is_down(tmp_path: Path) -> None:
    clock, post = Clock(), Post()
    url = f"sqlite:///{tmp_path / 'alerts.db'}"
    first = alerts(clock, url=url)
    first.register(standing())
    first.arrived([SECOND])
    post.down = True
    assert first.deliver({"post": post}) == 0 and first.waiting() == 1
    again = alerts(clock, url=url)
    post.down = False
    assert again.deliver({"post": post}) == 0  # not due yet
    clock.now += RETRY_S
    assert again.deliver({"other": post}) == 0 and again.waiting() == 1
    clock.now += 2 * RETRY_S
    assert again.deliver({"post": post}) == 1 and again.waiting() == 0
    assert again.deliver({"post": post}) == 0


def test_a_crash_between_delivery_and_note_delivers_again_under_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    post, here = Post(), alerts(Clock())
    here.register(standing())
    here.arrived([SECOND])

    def die(_engine: object) -> object:
        raise RuntimeError("power")

    with monkeypatch.context() as patched:
        patched.setattr("federome.network.alerts.write", die)
        with pytest.raises(RuntimeError):
            here.deliver({"post": post})
    assert here.deliver({"post": post}) == 1
    assert len({m.key for m in post.taken}) == 1 and len(post.taken) == 2


def test_digest_waits_for_its_hour() -> None:
    post, here = Post(), alerts(Clock())
    here.register(standing(severity="digest"))
    here.arrived([SECOND])
    assert here.deliver({"post": post}) == 0 and here.deliver({"post": post}, digest=True) == 1


def test_expired_withdrawn_or_without_permit_nobody_is_told() -> None:
    clock, post = Clock(), Post()
    here = alerts(clock)
    here.register(standing())
    here.arrived([SECOND])
    here.withdraw(SECOND.id)
    assert here.waiting() == 0
    here.arrived([ABROAD])
    here.withdraw(FIRST.id)
    assert here.waiting() == 0 and here.arrived([replace(ABROAD, id="next")]) == 0
    here.register(standing())
    clock.now += 2000
    assert here.arrived([replace(ABROAD, id="late")]) == 0
    shut = alerts(Clock(), permitted=False)
    shut.register(standing())
    assert shut.arrived([SECOND]) == 0 and shut.deliver({"post": post}) == 0
    with pytest.raises(Invalid):
        here.register(standing())
    with pytest.raises(Invalid):
        shut.register(standing(Patient("x", ("HP:9999999",))))
