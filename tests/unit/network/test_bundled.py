"""Programs of others in runs: their part behind walls, on what they named; odd results are refused by code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import missing
from tests.federation import Federation, approvals, build_federation
from tests.worlds import make_world, random_assignment

from federome.analysis import algorithm as contract
from federome.errors import Invalid, Refused
from federome.model.table import Table
from federome.network import about, serve_node
from federome.network.bundled import Bundled, install, installed, register
from federome.network.bundles import pack_folder, write_bundle
from federome.network.ledger import Run
from federome.network.protocol import mapping
from federome.network.sandbox import Sandbox
from federome.network.sandbox_bundle import Limits, Program, load_program
from federome.network.sandbox_inputs import GENOTYPES, PEOPLE

WOMEN = """
import numpy as np
from federome.model.table import Table

def run(inputs):
    male = Table.from_bytes(inputs["people.table"].read_bytes()).floats("male")
    women = male == 0
    return Table({"women": np.array([women.sum()]), "age": np.array([float(women.sum()) * 2.0])})
"""
CARRIERS = """
import numpy as np
from federome.model.table import Table

def run(inputs):
    people = Table.from_bytes(inputs["people.table"].read_bytes()).rows
    copies = np.fromfile(inputs["genotypes.int8"], np.int8).reshape(-1, people)
    return Table({"carriers": (copies > 0).sum(axis=1)})
"""


def folder_of(place: Path, source: str, described: str, *, release_class: str = "counts") -> Path:
    place.mkdir()
    (place / "bundle.toml").write_text(
        f'name = "{place.name}"\nversion = "1"\nrelease_class = "{release_class}"\nautomatic = ["counts"]\n'
    )
    (place / "program.toml").write_text(f'entry = "code:run"\n{described}')
    (place / "code.py").write_text(source)
    return place


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test registers is gone after it."""
    contract.registered()
    before = dict(contract._REGISTRY)
    yield
    contract._REGISTRY.clear()
    contract._REGISTRY.update(before)


@pytest.fixture
def women(tmp_path: Path) -> Program:
    described = 'reads = ["people.table"]\nreleases = ["women", "age"]\ncolumns = ["male"]\nsums = ["age"]\n'
    return load_program(folder_of(tmp_path / "women", WOMEN, described))


@pytest.fixture
def carriers(tmp_path: Path) -> Program:
    described = 'reads = ["people.table", "genotypes.int8"]\nreleases = ["carriers"]\ncolumns = ["male"]\n'
    return load_program(folder_of(tmp_path / "carriers-of", CARRIERS, described))


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    try:
        sandbox = Sandbox(tmp_path_factory.mktemp("walls"), caps=Limits(wall_s=20, cpu_s=20))
    except Refused as refusal:
        missing(f"nothing confines here: {refusal.message}")
        raise
    with sandbox:
        yield sandbox


def federation_of(root: Path) -> Federation:
    place = root / "federation"
    place.mkdir()
    world = make_world(seed=7, people=400, variants=20)
    built = build_federation(place, world.split(random_assignment(world, sites=3, seed=1)).sites)
    built.approvals = approvals()
    return built


def codes(run: Run) -> object:
    return mapping(run.detail, "problem").get("codes")


def test_programs_behind_walls_give_the_pooled_answer(
    tmp_path: Path, walls: Sandbox, women: Program, carriers: Program
) -> None:
    seen: list[set[str]] = []

    def run(program: Program, inputs: Mapping[str, bytes]) -> Table:
        seen.append(set(inputs))
        return walls.run(program, inputs)

    over_people, over_variants = register(women, run), register(carriers, run)
    federation = federation_of(tmp_path)
    sites = [holding.site for holding in federation.holdings.values()]
    ended = federation.settle(federation.ask(over_people()))
    assert ended.state == "complete", ended.detail.get("problem")
    told = federation.tables(ended)["result"]
    number = sum(int((site.view.numbers("male") == 0).sum()) for site in sites)
    assert (told.ints("women").tolist(), told.floats("age").tolist()) == ([number], [2.0 * number])
    known = sites[0].variants[:6]
    question = over_variants(variants=tuple(f"{v.chromosome}:{v.position}:{v.ref}:{v.alt}" for v in known))
    ended = federation.settle(federation.ask(question))
    assert ended.state == "complete", ended.detail.get("problem")
    told = federation.tables(ended)["result"]
    for line in range(told.rows):
        at = next(n for n, v in enumerate(known) if v.position == told.ints("position")[line])
        pooled = sum(int((site.genotypes[site.variants.index(known[at])] > 0).sum()) for site in sites)
        assert told.ints("carriers")[line] == pooled
    assert told.rows > 0
    assert {frozenset(names) for names in seen} == {frozenset([PEOPLE]), frozenset([PEOPLE, GENOTYPES])}


def test_a_program_that_is_ended_ends_the_run_with_its_code(tmp_path: Path, walls: Sandbox) -> None:
    source = "def run(inputs):\n    raise ValueError('a person: 1991-02-03')\n"
    made = register(load_program(folder_of(tmp_path / "bad", source, 'reads = []\nreleases = ["n"]\n')), walls.run)
    federation = federation_of(tmp_path)
    ended = federation.settle(federation.ask(made()))
    assert (ended.state, codes(ended)) == ("failed", ["job_failed"])
    assert "1991" not in str(ended.detail)


Odd = Callable[[], dict[str, np.ndarray]]  # type: ignore[type-arg]


@pytest.mark.parametrize(
    "odd",
    [
        lambda: {"women": np.array([1.5]), "age": np.array([1.0])},
        lambda: {"women": np.array([-1]), "age": np.array([1.0])},
        lambda: {"women": np.array([1 << 62]), "age": np.array([1.0])},
        lambda: {"women": np.array([30]), "age": np.array([np.nan])},
        lambda: {"women": np.array([30]), "age": np.array([np.inf])},
        lambda: {"women": np.array([30]), "age": np.array([1e300])},
        lambda: {"women": np.array([[30, 30]]), "age": np.array([1.0])},
        lambda: {"women": np.array(["=HYPERLINK()"]), "age": np.array([1.0])},
        lambda: {"women": np.zeros(200_000, np.int64), "age": np.zeros(200_000)},
        lambda: {"women": np.array([30]), "age": np.array([1.0]), "extra": np.array([1])},
    ],
)
def test_an_odd_result_is_refused_and_the_run_is_marked(tmp_path: Path, women: Program, odd: Odd) -> None:
    made = register(women, lambda _program, _inputs: Table(odd()))
    federation = federation_of(tmp_path)
    ended = federation.settle(federation.ask(made()))
    assert (ended.state, codes(ended)) == ("failed", ["output_class_unapproved"])


def test_without_walls_or_a_known_class_nothing_runs(tmp_path: Path, women: Program) -> None:
    federation_question = register(women)()
    federation = federation_of(tmp_path)
    ended = federation.settle(federation.ask(federation_question))
    assert codes(ended) == ["sandbox_unavailable"]
    folder = folder_of(tmp_path / "strange", WOMEN, 'reads = []\nreleases = ["n"]\n', release_class="everything")
    with pytest.raises(Refused):
        register(load_program(folder))
    with pytest.raises(Invalid):
        register(women)(variants=("1:1:A:C",))


def test_a_bundle_is_what_its_digest_says(tmp_path: Path, women: Program) -> None:
    made = register(women)
    assert contract.content_digest(made) == women.bundle.digest
    assert issubclass(made, Bundled)
    assert contract.build("women", contract.parameters(made())) == made()
    bundle, files = pack_folder(tmp_path / "women")
    write_bundle(tmp_path / "women.bundle", bundle, files)
    install(tmp_path, tmp_path / "women.bundle")
    assert [program.bundle.digest for program in installed(tmp_path)] == [women.bundle.digest]
    with pytest.raises(Invalid):
        install(tmp_path, tmp_path / "women")


def test_a_node_whose_self_test_fails_takes_no_program_of_others(
    tmp_path: Path, women: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, files = pack_folder(tmp_path / "women")
    write_bundle(tmp_path / "women.bundle", bundle, files)
    assert serve_node.open_programs(tmp_path, lambda _line: None) == {}
    install(tmp_path, tmp_path / "women.bundle")

    def leaks(*_: object, **__: object) -> object:
        raise Refused("it leaks", codes=["sandbox_self_test_failed"])

    monkeypatch.setattr(serve_node, "open_tested", leaks)
    lines: list[str] = []
    found = serve_node.open_programs(tmp_path, lines.append)
    assert found == {"passed": False, "codes": ["sandbox_self_test_failed"]}
    assert len(lines) == 1
    assert about.kept(tmp_path) == found  # what its service-info says
    assert "women" not in contract.registered()
