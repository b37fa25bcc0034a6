"""The documentation against the product: links lead somewhere, commands and modules exist, examples are read."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import pytest
import typer
from tests.worlds import make_world, pass_gate, random_assignment, threshold_gate

from federome import errors
from federome.analysis import algorithm as contract
from federome.analysis.program import run_in_process
from federome.cli import app
from federome.cli.helps import EXAMPLES
from federome.governance.decision import REASON_CODES
from federome.model.cohort import Cohort
from federome.model.permit import Permit
from federome.network import protocol
from federome.network.access import read_access, read_register
from federome.network.desk import DeskSettings
from federome.network.house import PortalSettings
from federome.network.provider import LoginSettings
from federome.network.setup import HubSettings, NodeSettings
from federome.trust.keys import generate

REPO = Path(__file__).resolve().parents[2]
SOURCE = REPO / "src" / "federome"
DOCUMENTS = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")])
CLI = typer.main.get_command(app)
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A fenced block: where it stands, its language and what further it is called, its text."""

    where: str
    language: str
    kind: str
    text: str


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO))


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def examples(*languages: str) -> list[Example]:
    found = []
    for path in DOCUMENTS:
        for at, (label, text) in enumerate(FENCE.findall(path.read_text())):
            language, _, kind = label.partition(" ")
            if language in languages:
                found.append(Example(f"{name_of(path)}, block {at + 1}", language, kind, text))
    return found


def page(name: str) -> str:
    return (REPO / "docs" / name).read_text()


def where(example: Example) -> str:
    return example.where


def anchors(path: Path) -> set[str]:
    """Anchors of headings as they are made on the web: small letters, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name_of(path)} links to {target}"
        assert REPO in there.parents, f"{target} leaves the repository"
        assert not anchor or anchor in anchors(there), f"{name_of(path)} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_nothing_speaks_of_one_machine_or_one_registry(path: Path) -> None:
    assert not re.findall(r"/(?:home|root|tmp|work|Users)/\w*|pypi\.org|pythonhosted|registry\.[a-z]", path.read_text())


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [REPO / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(path))
        waiting += [(path.parent / link).resolve() for link in links if "://" not in link]
    assert set(DOCUMENTS) <= seen, sorted(name_of(path) for path in set(DOCUMENTS) - seen)


# commands


def commands(text: str) -> Iterator[list[str]]:
    """The words of each ``federome`` command in shell text."""
    for line in re.split(r"[\n;&|]|\$\(|\bdo\b", text):
        words = shlex.split(re.sub(r"[<>].*|^#.*", "", line).replace('"', "").replace("'", ""))
        if words[:1] == ["federome"] and len(words) > 1:
            yield words[1:]


def check_command(words: list[str]) -> str:
    """The command's full name; fails unless the command line knows it and every option."""
    path: list[str] = []
    command = CLI
    for word in words:
        below = getattr(command, "commands", None)  # groups have commands
        default = getattr(command, "default", None)  # a group may have one that needs no name
        if below is not None and default and word not in below:
            command = below[default]
            path.append(default)
            break
        if below is None or word.startswith("-") or word.isupper():
            break
        assert word in below, f"there is no command federome {' '.join([*path, word])}"
        command = below[word]
        path.append(word)
    known = {"--help", *(option for each in command.params for option in each.opts)}
    for word in words:
        assert not word.startswith("--") or word in known, f"federome {' '.join(path)} has no option {word}"
    return " ".join(path)


@pytest.mark.parametrize("example", examples("sh", "bash", "console"), ids=where)
def test_commands_exist(example: Example) -> None:
    for words in commands(example.text):
        assert check_command(words) in set(leaves(CLI)), "a group of commands is no command"


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Full names of all commands that are no groups."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path)
        return
    for name, each in below.items():
        yield from leaves(each, (*path, name))


def test_the_command_page_lists_every_command_with_options_that_exist() -> None:
    told = [words for code in re.findall(r"`(federome [^`]+)`", page("reference/cli.md")) for words in commands(code)]
    assert {check_command(words) for words in told} - {""} == set(leaves(CLI))


def command_named(name: str) -> Any:
    command: Any = CLI
    for word in name.split():
        command = command.commands[word]
    return command


def test_every_command_tells_its_options_and_exit_codes() -> None:
    for name in leaves(CLI):
        command = command_named(name)
        assert "77 refused" in (command.epilog or ""), name
        silent = [each.opts[-1] for each in command.params if each.opts[0][0] == "-" and not each.help]
        assert not silent, f"federome {name} does not explain {silent}"


@pytest.mark.parametrize("name", sorted(leaves(CLI)))
def test_every_command_shows_an_example_that_it_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, options, and what they demand and accept; variables stand for what people do not type each time."""
    command = command_named(name)
    shown = re.findall(r"^Example: (federome .+)$", command.epilog or "", re.MULTILINE)
    assert len(shown) == 1, f"federome {name} shows no example: write one in cli/helps.py"
    words = shlex.split(shown[0].partition(" > ")[0])[1:]
    assert check_command(words) == name
    for each in command.params:
        if each.envvar:
            monkeypatch.setenv(each.envvar, "given")
    command.make_context(name, words[len(name.split()) :])


def test_no_example_is_of_a_command_that_is_gone() -> None:
    assert set(EXAMPLES) == set(leaves(CLI))


def test_the_picture_of_the_folders_is_the_one_that_is_enforced() -> None:
    drawn = re.search(r"^```\n(cli\n.*?)^```$", (REPO / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    assert drawn is not None
    contracts = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [line.replace("(economics)", "economics").replace(" | (settings)", "") for line in contracts[0]["layers"]]
    assert [re.split(r"  +", line)[0] for line in drawn[1].splitlines()] == layers


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)) <= targets, name_of(path)


def test_the_check_can_fail() -> None:
    with pytest.raises(AssertionError, match="no command"):
        check_command(["node", "obey"])
    with pytest.raises(AssertionError, match="no option"):
        check_command(["node", "serve", "--quietly"])


# modules and names


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    for code in re.findall(r"`([^`\n]+)`", prose(path)):
        if re.fullmatch(r"(?:src|tests|docs|requirements)/[\w./-]+", code):
            assert (REPO / code).exists(), f"{name_of(path)} names {code}"
        elif re.fullmatch(r"(?:[a-z_]+/)?[a-z_]+\.py", code):
            found = [*SOURCE.rglob(Path(code).name), *(REPO / "tests").rglob(Path(code).name)]
            scripts = re.findall(r"Save (?:it|this) as `([a-z_]+\.py)`", prose(path))
            assert code in scripts or any(str(file).endswith(f"/{code}") for file in found), code


def names_of(module: str) -> set[str]:
    """Names that a module of ours has at its top, read without importing it."""
    place = SOURCE.parent / Path(*module.split("."))
    file = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
    assert file.is_file(), f"there is no module {module}"
    found = {each.stem for each in place.glob("*.py")}
    for node in ast.parse(file.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.ImportFrom(names=imported) | ast.Import(names=imported):
                found |= {alias.asname or alias.name for alias in imported}
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case _:
                pass
    return found


@pytest.mark.parametrize("example", examples("python"), ids=where)
def test_python_examples_import_what_exists(example: Example) -> None:
    for node in ast.walk(ast.parse(example.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("federome"):
            assert {alias.name for alias in node.names} <= names_of(str(node.module))


# examples that are data


@pytest.mark.parametrize("example", examples("json", "toml"), ids=where)
def test_data_examples_are_read(example: Example) -> None:
    document = json.loads(example.text) if example.language == "json" else tomllib.loads(example.text)
    match example.kind:
        case "permit":
            assert Permit.from_document(document).nodes
        case "cohort":
            assert msgspec.to_builtins(msgspec.convert(document, type=Cohort)) != msgspec.to_builtins(Cohort())
        case "problem":
            assert errors.from_problem(document).problem() == document
        case "hub":
            assert set(document) == {field.name for field in dataclasses.fields(HubSettings(**document))}
        case "node":
            assert set(document) == {field.name for field in dataclasses.fields(NodeSettings(**document))}
        case "access":
            assert read_access(example.text, development=True).policy.clearinghouse.issuers
        case "login":
            assert LoginSettings.from_document(document).clients
        case "desk":
            assert DeskSettings.from_document(document).offers
        case "portal":
            assert PortalSettings.from_document(document).operators
        case "register":
            assert read_register(example.text).persons
        case kind:
            assert not kind, f"what is a {kind}?"


def test_the_tutorial_s_permit_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = [e.text for e in examples("python") if "permit.json" in e.text and "tutorial" in e.where]
    monkeypatch.chdir(tmp_path)
    Path("keys").mkdir()
    Path("keys/me.public.json").write_text(json.dumps({"name": "researcher-1", "jwk": generate("ES256").public.jwk()}))
    exec(compile(script, "permit.py", "exec"), {})
    assert Permit.from_document(json.loads(Path("permit.json").read_text())).nodes == ("ES", "FI", "IT")


@pytest.fixture
def documented() -> Iterator[type[contract.Algorithm]]:
    """The algorithm of the how-to page, registered for one test."""
    (text,) = [example.text for example in examples("python") if example.kind == "algorithm"]
    module = ModuleType("documented_algorithm")
    sys.modules[module.__name__] = module
    before = dict(contract._REGISTRY)
    exec(compile(text, "write-an-algorithm.md", "exec"), module.__dict__)
    (made,) = set(contract._REGISTRY.values()) - set(before.values())
    yield made
    del sys.modules[module.__name__]
    contract._REGISTRY.clear()
    contract._REGISTRY.update(before)


def test_the_documented_algorithm_works(documented: type[contract.Algorithm]) -> None:
    world = make_world(seed=7, people=90)
    question = msgspec.convert({"phenotype": "ldl"}, type=documented)
    split = world.split(random_assignment(world, sites=3, seed=1))
    numeric = split.pooled.view.numeric
    question = dataclasses.replace(question, phenotype=next(iter(numeric)))  # type: ignore[type-var]
    values = numeric[question.phenotype]  # type: ignore[attr-defined]
    values = values[~np.isnan(values)]

    def answer(gate: object) -> contract.Table:
        return run_in_process(question, split.sites, (), gate=gate, names=lambda _n, rows: rows)["mean"]  # type: ignore[arg-type]

    table = answer(pass_gate)
    assert table.ints("people").tolist() == [len(values)]
    assert table.floats("mean")[0] == pytest.approx(values.mean(), rel=1e-12)
    assert answer(threshold_gate(len(values) + 1)).records() == [{"people": None, "mean": None}]


# tables that repeat what the code says


def test_reason_codes_are_all_listed() -> None:
    section = page("reference/errors.md").partition("## Reason codes")[2]
    assert set(re.findall(r"`(\w+)`", section.partition("\nThe ones met")[0])) == REASON_CODES
    for kind in (errors.Refused, errors.Invalid, errors.Damaged, errors.Unavailable):
        assert re.search(rf"\| `{kind.kind}` \|.*\| {kind.exit_code} \| {kind.status} \|", page("reference/errors.md"))


def test_tasks_and_endpoints_are_all_listed() -> None:
    text = page("reference/protocol.md")
    nodes, _, rest = text.partition("### Tasks of a node")[2].partition("### Tasks of the releaser")
    releaser = rest.partition("## The course")[0]
    assert re.findall(r"^\| `(\w+)`", nodes, re.MULTILINE) == list(get_args(protocol.NodeTask))
    told = re.findall(r"^\| `(\w+)`", releaser, re.MULTILINE)
    assert told == ["roster", *get_args(protocol.ReleaserTask)]
    login = SOURCE / "network" / "login.py"
    source = "".join(file.read_text() for file in (SOURCE / "network").glob("*.py") if file != login)
    served = {f"{verb.upper()} {path}" for verb, path in re.findall(r'@\w+\.(get|post|put)\("(/[^"]*)"', source)}
    calls = re.findall(r'@\w+\.(get|post)\("(/?\w*)"', login.read_text())
    shown = set(re.findall(r"^\| `((?:GET|POST) [^`?]+)", page("how-to/log-in.md"), re.MULTILINE))
    assert shown == {f"{verb.upper()} /login/v1{path}" for verb, path in calls}
    served |= {f"{verb} {path}" for verb, path in re.findall(r'\("(GET|POST)", f"\{PREFIX\}(/\w+)"\)', source)}
    assert set(re.findall(r"^\| `((?:GET|POST|PUT) [^`?]+)", text, re.MULTILINE)) == served


def test_fields_of_a_permit_are_all_listed() -> None:
    table = page("reference/permits.md").partition("| field | holds | mandatory |")[2].partition("\n## ")[0]
    told = {
        name for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert told == {field.name for field in dataclasses.fields(Permit)}


def test_dependencies_are_all_explained() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    needed += project["dependency-groups"]["build"]
    text = page("explanation/dependencies.md")
    for requirement in needed:
        name = re.split(r"[<>=\[ ]", requirement)[0]
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name
