"""``federome risk``: what a node has told under each grant, and what a question would cost, before it is asked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table as Shown

from federome.cli.edge import AsJson, NodeFolder
from federome.errors import Invalid, Refused

if TYPE_CHECKING:
    from federome.model.permit import Authorisation
    from federome.network.pricing import Published
    from federome.network.spending import SqlBudgets
    from federome.store.catalogue import Store

PUBLISHED: Final = "published.json"

risk_app = typer.Typer(no_args_is_help=True, help="What answers have told, and what a question would cost.")
out = Console(highlight=False)


@risk_app.command("show")
def show(
    folder: NodeFolder,
    permit: Annotated[Path | None, typer.Option("--permit", help="A signed permit: only its account.")] = None,
    sites: Annotated[int, typer.Option(min=0, help="What if: variants told one by one.")] = 0,
    rare: Annotated[int, typer.Option(min=0, help="What if: of these, variants that few people carry.")] = 0,
    people: Annotated[int, typer.Option(min=0, help="What if: people of the smallest group told of.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What has been told under each grant; with ``--sites`` and ``--people``, what a question would cost."""
    from federome.disclosure import risk
    from federome.model.release import Policy, strictest
    from federome.network.spending import limit_of, metered
    from federome.store.catalogue import Store

    if rare > sites or bool(sites) != bool(people):
        raise Invalid("a question has sites and people; rare sites are among its sites.", where="--sites, --people")
    grant = _grant(permit) if permit is not None else None
    store = Store.open(folder / "data")
    held = [store.release(name).manifest.policy for name in store.datasets()]
    policy = strictest([each for each in held if not each.open_data] or held or [Policy()])
    limit = limit_of(held)
    if grant is not None and grant.budget_rho is not None:
        limit = min(limit, grant.budget_rho)
    spent = _budgets(folder).accounts()
    wanted = {f"grant:{grant.id}": spent.get(f"grant:{grant.id}", 0.0)} if grant is not None else spent
    asked = None
    if sites:
        asked = risk.Question(people, sites=float(sites - rare), unknown=rare, at_least=policy.k_min)
    says = risk.explain(asked, spent=max(wanted.values(), default=0.0), limit=limit) if asked is not None else []
    accounts = metered(wanted, lambda _name: limit)
    rows = [
        {"account": one.name, "rho": one.rho, "power": one.power, "left": max(limit - one.rho, 0.0)} for one in accounts
    ]
    if as_json:
        cost = risk.price(asked) if asked is not None else None
        facts = {"limit": limit, "allowed": risk.power(limit), "accounts": rows, "price": cost, "says": says}
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    grid = Shown(caption=f"found of 100 members by the best test; 5 is guessing, {100 * risk.power(limit):.0f} allowed")
    for heading in ("account", "ρ spent", "found", "budget left"):
        grid.add_column(heading, justify="left" if heading == "account" else "right")
    for one in accounts:
        grid.add_row(one.name, f"{one.rho:.4f}", f"{100 * one.power:.0f}", f"{one.left:.0%}")
    out.print(grid)
    for sentence in says:
        out.print(sentence)


@risk_app.command("publish")
def publish(
    folder: NodeFolder,
    dataset: Annotated[str, typer.Option(help="The dataset whose frequency table is published.")],
    by: Annotated[str, typer.Option(help="Its strata: all, sex, population, sex-population.")] = "all",
    populations: Annotated[str, typer.Option(help="Populations with a row of their own, by commas.")] = "",
    as_json: AsJson = False,
) -> None:
    """Price the frequency table of the newest data release once; questions to it are free from then on."""
    named = tuple(filter(None, populations.split(",")))
    entry = publish_frequencies(folder, dataset, by=by, populations=named)
    if as_json:
        sys.stdout.write(json.dumps(entry.to_document()) + "\n")
        return
    out.print(f"{dataset}: the frequency table by {by} is published (ρ = {entry.rho:.4f}) and free to ask for.")


def publish_frequencies(folder: Path, dataset: str, *, by: str, populations: Sequence[str] = ()) -> Published:
    """Charge the public's account of a data release with a whole table and list it as published.

    N is the smallest group of the table. ``Refused`` (``budget_exhausted``) where so many sites about so few people
    would let somebody who holds a genome recognise it; ``Invalid`` for a dataset that is not there.
    """
    from federome.disclosure import risk
    from federome.disclosure.budgets import Charge
    from federome.network.pricing import Published, table_shape
    from federome.store.catalogue import Store

    store = Store.open(folder / "data")
    release = store.release(dataset)
    policy = release.manifest.policy.public()
    shape = table_shape({"by": by, "populations": list(populations)})
    sites = sum(batch.variants for batch in release.batches)
    people = _smallest(store, dataset, by, populations)
    asked = risk.Question(max(people, 1), sites=float(sites), open_data=policy.open_data)
    rho, limit = risk.price(asked), risk.rho_at(policy.membership_power)
    held = _read(folder)
    entry = Published(dataset, release.digest, shape, rho)
    if any((e.dataset, e.release, dict(e.parameters)) == (dataset, release.digest, shape) for e in held):
        return entry
    budgets = _budgets(folder)
    run = f"publish:{dataset}:{release.digest}:{by}:{','.join(populations)}"
    try:
        budgets.reserve(run, [Charge(f"public:{release.digest}", rho, limit)])
    except Refused as error:
        says = " ".join(risk.explain(asked, spent=budgets.spent(f"public:{release.digest}"), limit=limit)[2:])
        raise Refused(says, codes=error.codes, where=dataset, remedy="Answer such questions under permits.") from error
    fresh = (folder / PUBLISHED).with_name(f".{PUBLISHED}")
    fresh.write_text(json.dumps([each.to_document() for each in (*held, entry)], indent=1))
    fresh.replace(folder / PUBLISHED)
    budgets.commit(run)
    return entry


def _smallest(store: Store, dataset: str, by: str, populations: Sequence[str]) -> int:
    from federome.analysis.allele_frequency import AlleleFrequency
    from federome.store.view import StudyView

    try:
        question = AlleleFrequency(by=by, populations=tuple(populations))  # type: ignore[arg-type]
    except Invalid as error:
        raise Invalid(error.message, where=by, remedy=error.remedy) from error
    view = StudyView.freeze(store, [store.release(dataset)])
    return min(int(mask.sum()) for mask in question.told_of(view))


def _read(folder: Path) -> tuple[Published, ...]:
    from federome.network.pricing import Published

    path = folder / PUBLISHED
    return tuple(Published.from_document(each) for each in json.loads(path.read_text())) if path.is_file() else ()


def _budgets(folder: Path) -> SqlBudgets:
    from federome.db import engine
    from federome.network.spending import SqlBudgets

    return SqlBudgets(engine(f"sqlite:///{folder / 'node.db'}", durable=True), time.time)


def _grant(permit: Path) -> Authorisation:
    from federome.client.orders import Grant

    return Grant.read(permit).says
