"""Standing questions over five nodes: published TLR7 families as scripted cases, crashes, withdrawal, expiry.

The families are facts of the literature: young men with severe COVID-19 and loss of function of TLR7, two families
(van der Made et al., JAMA 2020, PMC7382021) and an unrelated pair of brothers, one mild (Front Immunol 2021;12:719115).
Terms are stand-ins of the test ontology.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.matching import NODES, PATIENTS, RATES, World, build_world, restart
from tests.unit.analysis.test_matching import LEAVES, MEASURE

from federome.analysis.infection import Admission, Hit, Rule
from federome.analysis.matching import ALERT_WEIGHT, Background, alert_bar
from federome.errors import Invalid, Refused, Unavailable
from federome.model.patient import Patient
from federome.network.alerts import GATHER_S, RETRY_S, Alerts, Message
from federome.network.cases import Case
from federome.network.match_node import MatchingNode

SEVERE = tuple(LEAVES[250:254])
LOSS = (Hit("TLR7", "hemizygous"),)
FIRST = Case("brother-30", "doctor", "fi-1", Patient("", SEVERE, genes=("TLR7",)), family="family-1",
             admission=Admission("male", 30, 7, 18_340, "north", LOSS))  # fmt: skip
SECOND = Case("brother-27", "clinician-fi", "fi-1", Patient("", SEVERE[:3], genes=("TLR7",)), family="family-1",
              admission=Admission("male", 27, 7, 18_350, "north", LOSS))  # fmt: skip
ABROAD = Case("brother-28", "clinician-es", "es-1", Patient("", SEVERE[:2], genes=("TLR7", "G9")), family="family-2",
              admission=Admission("male", 28, 6, 18_400, "south", LOSS))  # fmt: skip
MILD = Case("brother-24", "clinician-es", "es-1", Patient("", SEVERE[:1], genes=("TLR7",)), family="family-2",
            admission=Admission("male", 24, 2, 18_401, "south", LOSS))  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("alerts"), patients=PATIENTS[:40])


@pytest.fixture
def world(built: World) -> World:
    built.reset()
    return built


def watch(world: World, case: Case = FIRST, *, infection: bool = True, **more: object) -> None:
    world.register("FI", case)
    told = world.asker("FI", case.name, case.holder).watch(NODES, MEASURE, RATES, infection=infection, **more)  # type: ignore[arg-type]
    assert set(told.answers) == set(NODES), told.silent


def test_the_brother_is_told_as_family_and_the_stranger_abroad_as_new(world: World) -> None:
    watch(world)
    assert world.follow() == 0  # nobody who was there before, and not the case itself
    world.register("FI", SECOND)
    assert world.follow() == 1
    world.register("ES", MILD)
    assert world.follow() == 0
    world.register("ES", ABROAD)
    assert world.follow() == 1
    assert world.follow() == 0
    told = [(m.person, m.case, m.node, m.evidence, m.kin) for m in world.told]
    assert told == [("doctor", "brother-30", "FI", "gene", "family"), ("doctor", "brother-30", "ES", "gene", "")]
    inbox = world.offices["FI"].alerts.received("doctor")
    assert {(a.case, a.node, a.kin) for a in inbox} == {("brother-30", "FI", "family"), ("brother-30", "ES", "")}
    # The clinician of the new case is asked as well, and both must agree before either learns an address.
    (waits,) = world.desk("ES").waiting("clinician-es")
    assert (waits.case, waits.home, waits.origin) == ("brother-28", "FI", "alert")
    abroad = next(a for a in inbox if a.node == "ES")
    asker = world.asker("FI", "brother-30", "doctor")
    assert asker.contact("ES", abroad.handle, yes=True, address="doctor@fi.example").state == "open"
    assert world.desk("ES").decided("clinician-es", waits.handle, yes=True, address="es@es.example").address == (
        "doctor@fi.example"
    )
    assert asker.contact("ES", abroad.handle, yes=None).address == "es@es.example"


def test_segregating_brothers_abroad_are_one_observation(world: World) -> None:
    """Said of one by one, two brothers with one variant would look like two families."""
    watch(world)
    world.register("ES", ABROAD)
    world.register("ES", replace(ABROAD, name="his-brother", patient=replace(ABROAD.patient, id="his-brother")))
    assert ABROAD.family and world.follow() == 1
    other = replace(ABROAD, name="another", patient=replace(ABROAD.patient, id="another"), family="family-9")
    world.register("ES", other)
    assert world.follow() == 1


def test_said_once_and_again_only_when_evidence_rises(world: World) -> None:
    plain = Case("watched", "doctor", "fi-1", Patient("", SEVERE, genes=("G1",)))
    watch(world, plain, infection=False, rate=0.05)
    bare = Case("new", "clinician-es", "es-1", Patient("", SEVERE))
    world.register("ES", bare)
    assert world.follow() == 1
    world.register("ES", bare)  # described anew, and no more is known
    assert world.follow() == 0
    world.register("ES", replace(bare, patient=Patient("", SEVERE, genes=("G1",))))
    assert world.follow() == 1
    assert [m.evidence for m in world.told] == ["phenotype", "gene"]


def test_killed_anywhere_nothing_is_lost_and_nothing_is_told_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both nodes die at every write in turn while an alert is made, sent, taken in and told; then they come back."""
    from federome.network import alerts

    watch(world)
    world.register("ES", ABROAD)
    real, deaths = alerts.write, 0
    for step in itertools.count():
        left = itertools.count()

        def dying(database: object, step: int = step, left: itertools.count[int] = left) -> object:
            if next(left) == step:
                raise RuntimeError("power")
            return real(database)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr("federome.network.alerts.write", dying)
            try:
                world.follow()
            except RuntimeError:
                deaths += 1
            if next(left) <= step:
                break
        for node in ("ES", "FI"):
            restart(world, node)
    world.follow()
    assert deaths >= 2
    assert len({m.key for m in world.told}) == 1 <= len(world.told)
    assert len(world.offices["FI"].alerts.received("doctor")) == 1


def test_a_node_that_was_down_catches_up_and_a_letter_waits_for_one_that_is_down(world: World) -> None:
    watch(world)
    world.down.add("ES")
    world.register("ES", ABROAD)
    assert world.follow() == 0
    world.down = {"FI"}
    assert world.follow() == 0
    world.down.clear()
    restart(world, "ES")
    assert world.follow() == 1


def test_a_message_outlives_a_channel_that_is_down(world: World) -> None:
    watch(world)
    world.register("ES", ABROAD)
    here, taken = world.offices["ES"].alerts, []

    def down(_message: Message) -> None:
        raise Unavailable("the hub is away")

    here.catch_up()
    assert here.deliver({"home": down}) == 0 and here.waiting() == 1
    assert here.deliver({"home": taken.append}) == 0  # not due yet
    world.federation.clock[0] += RETRY_S
    assert here.deliver({}) == 0 and here.waiting() == 1
    world.federation.clock[0] += 2 * RETRY_S
    assert here.deliver({"home": taken.append}) == 1 and here.waiting() == 0
    assert here.deliver({"home": taken.append}) == 0


def test_a_digest_waits_for_the_next_day_and_is_one_message_from_all_nodes(world: World) -> None:
    watch(world, severity="digest")
    world.register("ES", ABROAD)
    world.register("IT", replace(ABROAD, dataset="it-1", family="family-3"))
    assert world.follow() == 0
    world.federation.clock[0] += 86_400
    assert world.follow() == 0
    here = world.offices["FI"].alerts
    assert {a.node for a in here.received("doctor")} == {"ES", "IT"}  # to be seen already
    world.federation.clock[0] += GATHER_S

    def down(message: Message) -> None:
        raise Unavailable("the mail server is away")

    assert here.deliver({"clinician": down}) == 0 and here.waiting() == 2
    world.federation.clock[0] += RETRY_S
    assert world.follow() == 1
    told = world.told[-1]
    assert {m.node for m in (told, *told.gathered)} == {"ES", "IT"} and here.waiting() == 0
    assert world.follow() == 0


def test_who_withdrew_is_neither_found_nor_told_also_where_the_message_waited(world: World) -> None:
    watch(world)
    world.register("ES", ABROAD)
    here = world.offices["ES"].alerts
    assert here.catch_up() == 1
    world.desk("ES").book.withdraw(ABROAD.name, ABROAD.holder)
    here.catch_up()
    assert here.waiting() == 0
    world.register("ES", replace(ABROAD, name="next"))
    assert here.catch_up() == 1
    world.gone.add(("ES", "next"))
    assert here.deliver(world.going["ES"]) == 0 and here.waiting() == 0
    world.register("ES", replace(ABROAD, name="third"))
    world.asker("FI", FIRST.name, "doctor").unwatch(NODES)
    assert here.catch_up() == 0 and here.standing() == 0


def test_without_contract_or_after_expiry_nothing_is_told(world: World) -> None:
    watch(world, days=1)
    known = replace(world.federation.state("ES"), suspended=frozenset({"C-1"}))
    office = world.offices["ES"]
    object.__setattr__(office.alerts, "_permitted", lambda _grant: False)
    world.register("ES", ABROAD)
    assert office.alerts.catch_up() == 0 and known
    restart(world, "ES")
    world.federation.clock[0] += 2 * 86_400
    world.register("ES", replace(ABROAD, name="late"))
    assert world.offices["ES"].alerts.catch_up() == 0


def test_a_suspended_contract_ends_what_rests_on_it(world: World) -> None:
    from federome.network.match_node import still_permitted
    from federome.trust.people import sign_order

    assert sign_order
    grant = {"order": world.orders("doctor", ["ES"], "r")["ES"], "permit": world.contract}
    node = world.offices["ES"]
    assert still_permitted(grant, node.state, node.anchors, lambda: world.clock() + 90 * 86_400)
    suspended = replace(node.state(), suspended=frozenset({"C-1"}))
    assert not still_permitted(grant, lambda: suspended, node.anchors, world.clock)
    assert not still_permitted(grant, lambda: replace(node.state(), persons={}), node.anchors, world.clock)
    assert not still_permitted(grant, node.state, node.anchors, lambda: world.clock() + 500 * 86_400)
    assert not still_permitted({**grant, "permit": "x.y.z"}, node.state, node.anchors, world.clock)


def test_what_waited_is_not_told_while_its_contract_is_suspended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alert was found before; it leaves only once the suspension is lifted."""
    watch(world)
    world.register("ES", ABROAD)
    here, taken = world.offices["ES"].alerts, []
    assert here.catch_up() == 1
    with monkeypatch.context() as suspended:
        suspended.setattr(here, "_permitted", lambda _grant: False)
        assert here.deliver({"home": taken.append}) == 0 and here.waiting() == 1 and not taken
    world.federation.clock[0] += RETRY_S
    assert here.deliver({"home": taken.append}) == 1 and taken


class Stale:
    """Notices of a node from which the hub keeps the newest back."""

    def check(self, _members: object) -> None:
        raise Refused("too old", codes=["incomplete"])


def test_letters_wait_where_a_node_does_not_know_what_is_suspended(world: World, tmp_path: Path) -> None:
    watch(world)
    object.__setattr__(world.offices["ES"], "notices", Stale())
    told = world.asker("FI", FIRST.name, "doctor").watch(NODES, MEASURE, RATES)
    object.__setattr__(world.offices["ES"], "notices", None)
    assert set(told.answers) == {*NODES} - {"ES"}
    party = world.federation.parties["ES"]._worker
    node = MatchingNode(replace(party.node, notices=Stale()), tmp_path)  # type: ignore[union-attr]
    assert not node._knows_the_present() and node.follow({}) == 0


def test_an_alert_that_another_party_made_up_is_refused(world: World) -> None:
    from federome.errors import Refused
    from federome.network.alerts import seal_alert

    watch(world)
    office = world.offices["FI"]
    message = Message("k" * 64, "FI", "doctor", world.desk("FI").book.outside(FIRST.name), "gene", "", "h", "ES", 0.1,
                      _jwk(office.box.public.jwk()))  # fmt: skip
    nodes = world.federation.members.ring("node")
    good = seal_alert(message, world.offices["ES"].key, now=world.clock())
    with pytest.raises(Refused):
        office.alerts.receive("IT", good, office.box, nodes, "FI")  # the hub says it is from somebody else
    with pytest.raises(Refused):
        office.alerts.receive("ES", good, office.box, nodes, "GB")
    with pytest.raises(Refused):
        office.alerts.receive("ES", seal_alert(replace(message, case="x"), world.offices["ES"].key, now=world.clock()),
                              office.box, nodes, "FI")  # fmt: skip
    office.alerts.receive("ES", good, office.box, nodes, "FI")
    office.alerts.receive("ES", good, office.box, nodes, "FI")
    assert len(office.alerts.received("doctor")) == 1


def _jwk(jwk: dict[str, object]) -> str:
    import json

    return json.dumps(jwk)


def test_the_rule_for_infections() -> None:
    rule = Rule(places=("north", "south"))
    man, woman = FIRST.admission, replace(FIRST.admission, sex="female")  # type: ignore[type-var]
    assert man is not None and woman is not None
    assert rule.explains(man) == ("TLR7",) and rule.explains(woman) == ()
    assert rule.explains(replace(woman, hits=(Hit("TLR7", "homozygous"),))) == ("TLR7",)
    assert rule.explains(replace(man, hits=(Hit("TLR7", "homozygous"),))) == ("TLR7",)  # one copy, written as two
    for out in ({"age": 71.0}, {"severity": 5}, {"place": "east"}, {"hits": (Hit("TLR7", "hemizygous", 0.01),)},
                {"hits": (Hit("TTN", "homozygous"),)}, {"hits": (Hit("IFNAR1", "heterozygous"),)}):  # fmt: skip
        assert rule.explains(replace(man, **out)) == ()  # type: ignore[arg-type]
    assert rule.explains(replace(man, hits=(Hit("IFNAR1", "homozygous"), Hit("TLR3", "heterozygous")))) == (
        "IFNAR1",
        "TLR3",
    )
    later = replace(man, day=man.day + 366)
    two, single = ((Hit("IFNAR1", "heterozygous"),) * n for n in (2, 1))  # of a recessive gene, from both parents
    assert rule.explains(replace(man, hits=two)) == ("IFNAR1",) and rule.explains(replace(man, hits=single)) == ()
    assert rule.explains(replace(man, hits=(*single, Hit("IFNAR1", "heterozygous", 0.01)))) == ()  # one is common
    on_x = (Hit("TLR7", "heterozygous"),) * 2
    assert rule.explains(replace(woman, hits=on_x)) == ("TLR7",) and rule.explains(replace(man, hits=on_x)) == ()
    assert rule.explains(replace(man, sex="")) == ("TLR7",)  # hemizygous tells the copy, whatever is written of sex
    assert rule.alike(man, man) == ("TLR7",) and rule.alike(man, later) == ()
    with pytest.raises(Invalid):
        Admission("male", 30, 11, 1)


def test_a_rate_of_false_alerts_is_kept_by_arrivals_drawn_from_the_background() -> None:
    """The twin draws arrivals: a phenotype score from the unrelated, genes from the background, and counts."""
    rng = np.random.default_rng(4)
    genes, rates = ("A", "B", "C"), Background({"A": 0.002, "B": 0.02, "C": 0.1}, 0.001, "test")
    unrelated = rng.beta(1.2, 9, 400)
    for rate in (0.001, 0.01, 0.1):
        bar = alert_bar(unrelated, genes, rates, rate=rate)
        scores = ALERT_WEIGHT * rng.choice(unrelated, 400_000)
        pick = rng.random(400_000)
        edges = np.cumsum([rates.rates[gene] for gene in genes])
        shared = np.searchsorted(edges, pick, side="right")
        added = np.array([*(rates.evidence(gene) for gene in genes), 0.0])[shared]
        passed = float((scores + added > bar).mean())
        assert passed <= rate * 1.15 + 2e-5
        assert passed >= rate * 0.5  # and not far below
    assert alert_bar(np.zeros(0), (), rates, rate=0.5) == 0.0
    with pytest.raises(Invalid):
        alert_bar(unrelated, genes, rates, rate=0.0)


def test_a_question_that_could_never_match_is_refused(world: World) -> None:
    from federome.network.alerts import Standing

    here: Alerts = world.offices["FI"].alerts
    box = world.offices["FI"].box.public
    made = Standing("FI/x", "doctor", "FI", "x", box, {}, ("fi-1",), Patient("x", ("HP:9999999",)), world.clock() + 10)
    with pytest.raises(Invalid):
        here.register(made)
    with pytest.raises(Invalid):
        here.register(replace(made, patient=Patient("x", SEVERE), until=world.clock() - 1))
    with pytest.raises(Invalid):  # mild
        here.register(replace(made, patient=Patient("x", SEVERE), admission=MILD.admission))
