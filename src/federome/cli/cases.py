"""Commands of clinicians beside their own node: register a case, ask other nodes, wait, agree. ``match`` lists them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from federome.cli.edge import AsJson, read_object, tell
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.analysis.matching import Explanation
    from federome.network.match_asker import Asker, Told
    from federome.network.match_desk import Contact
    from federome.network.match_node import Home

NodeDir = Annotated[Path, typer.Option("--dir", envvar="FEDEROME_NODE", help="Your own node's folder.")]
Clinician = Annotated[str, typer.Option("--person", envvar="FEDEROME_PERSON", help="Your id in the register.")]
Name = Annotated[str, typer.Option("--case", help="Your name of the case.")]
Hub = Annotated[str, typer.Option("--hub", envvar="FEDEROME_HUB", help="The hub's address.")]
Key = Annotated[Path, typer.Option("--key", envvar="FEDEROME_KEY", help="Your private key file.")]
Contract = Annotated[Path, typer.Option("--contract", envvar="FEDEROME_CONTRACT", help="The signed care contract.")]
Certificate = Annotated[
    Path | None, typer.Option("--certificate", envvar="FEDEROME_CERTIFICATE", help="The hub's certificate, to pin it.")
]
Session = Annotated[
    Path | None, typer.Option("--session", envvar="FEDEROME_SESSION", help="Your login, where the hub demands one.")
]
Datasets = Annotated[list[str], typer.Option("--datasets", help="NODE:DATASET,… that are asked.")]
Level = Annotated[
    Literal["genes", "terms", "both", "variants"], typer.Option(help="What of the case leaves, sealed; variants: all.")
]
Deadline = Annotated[float, typer.Option(min=1, help="Seconds until late nodes are named.")]


def open_(
    folder: NodeDir,
    ontology: Annotated[Path, typer.Option("--ontology", help="An installed ontology's folder: the same everywhere.")],
    background: Annotated[Path | None, typer.Option("--background", help="Rates by gene: the same everywhere.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a node take cases and letters about patients; for its operator."""
    from federome.network.match_node import open_matching, tables

    open_matching(folder, ontology, background)
    made = tables(folder)
    facts = {"measure": made.measure.version, "background": made.background.source}
    tell(
        facts, f"This node takes cases. Formula and tables: {facts['measure']}; genes: {facts['background']}.", as_json
    )


def register(
    patients: Annotated[Path, typer.Argument(help="Patients, one JSON object a line; the id is the case's name.")],
    folder: NodeDir,
    person: Clinician,
    dataset: Annotated[str, typer.Option("--dataset", help="The dataset that the cases stand in.")],
    pseudonym: Annotated[str, typer.Option(help="The person's pseudonym, the same at every node; for one case.")] = "",
    family: Annotated[str, typer.Option(help="The family's pseudonym; for one case.")] = "",
    subject: Annotated[str, typer.Option(help="The person's name in the consent ledger, if not the case's.")] = "",
    admission: Annotated[
        Path | None, typer.Option(help="JSON of an admission for an infection: sex, age, severity, day, place, hits.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Ask about the case, and let nobody find it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register cases, or describe them anew. Says what of them was not used."""
    from federome.ingest.patients import read_patients
    from federome.network.alerts import read_admission
    from federome.network.cases import Case

    home, listed = _home(folder), list(read_patients(patients))
    if len(listed) > 1 and (pseudonym or family or subject or admission):
        raise Invalid("pseudonyms and an admission are for one case at a time.", where=patients.name)
    admitted = read_admission(read_object(admission)) if admission else None
    cases = [
        Case(p.id, person, dataset, p, subject, pseudonym, family, shared=not private, admission=admitted)
        for p in listed
    ]
    count = home.desk.book.register_all(cases, home.desk.measure)
    ignored = {p.id: [asdict(each) for each in home.desk.measure.profile(p).ignored] for p in listed}
    ignored = {name: found for name, found in ignored.items() if found}
    notes = {p.id: list(p.notes) for p in listed if p.notes}
    lines = [f"{count} cases are registered."]
    lines += [
        f"  {name}: ignored {', '.join(e['term'] + ' (' + e['why'] + ')' for e in v)}" for name, v in ignored.items()
    ]
    lines += [f"  {name}: {note}" for name, told in notes.items() for note in told]
    tell({"registered": count, "ignored": ignored, "notes": notes}, "\n".join(lines), as_json)


def candidates(
    folder: NodeDir,
    person: Clinician,
    case: Name,
    consequences: Annotated[
        Literal["loss-of-function", "protein-altering"], typer.Option(help="What variants must do to be offered.")
    ] = "loss-of-function",
    rare_below: Annotated[float, typer.Option(help="Highest frequency in the node's release.")] = 0.001,
    use: Annotated[list[str] | None, typer.Option("--use", help="Put this gene on the case's list; repeat.")] = None,
    as_json: AsJson = False,
) -> None:
    """Offer candidate genes from your patient's own genotypes at this node; ``--use`` takes them onto the case's list.

    Nothing leaves the node by this. A question at level variants tells what was taken, like all candidate variants.
    """
    from federome.model.finding import copies
    from federome.network.consents import node_consents
    from federome.network.holdings import open_holdings

    home = _home(folder)
    held = home.desk.book.case(case, person)
    found, notes = open_holdings(folder, node_consents(folder), time.time).candidates(
        held.dataset, held.subject, consequences=consequences, rare_below=rare_below
    )
    background = home.desk.background
    genes = sorted({each.gene for each in found}, key=lambda gene: (-background.evidence(gene), gene))
    if strangers := set(use or ()) - set(genes):
        raise Invalid(f"not offered: {', '.join(sorted(strangers))}.", where="--use", remedy="Use a gene of the list.")
    if use:
        patient = held.patient
        taken = tuple(each for each in found if each.gene in use and each not in patient.findings)
        listed = tuple(dict.fromkeys((*patient.genes, *use)))
        described = replace(patient, genes=listed, findings=patient.findings + taken)
        home.desk.book.register(replace(held, patient=described), home.desk.measure)
    rows = [
        {
            "gene": gene,
            "copies": copies(tuple(found), gene),
            "evidence": round(background.evidence(gene), 2),
            "variants": [asdict(each) for each in found if each.gene == gene],
            "used": gene in (use or ()) or gene in held.patient.genes,
        }
        for gene in genes
    ]
    tell({"candidates": rows, "notes": list(notes)}, _candidates_text(rows, notes), as_json)


def _candidates_text(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    lines = []
    for row in rows:
        lines.append(
            f"{row['gene']}: {row['copies'] or 'unknown'} of its copies hit, evidence {row['evidence']:.1f} nats"
            f"{', on the list' if row['used'] else ''}"
        )
        lines += [
            "  " + " ".join(v[part] for part in ("variant", "consequence", "protein", "zygosity") if v[part])
            for v in row["variants"]
        ]
    lines = lines or ["No rare variant of this kind: this says nothing of variants that are not rare or not annotated."]
    return "\n".join([*lines, *notes])


def follow(
    folder: NodeDir,
    dataset: Annotated[str, typer.Option("--dataset", help="A dataset of this node.")],
    person: Clinician = "",
    stop: Annotated[bool, typer.Option("--stop", help="Follow it no longer; its cases stay.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register the unsolved people of a dataset's releases as cases, and keep them so; for the node's operator."""
    from federome.governance.consent import Ledger
    from federome.network.holdings import open_holdings
    from federome.network.match_releases import follow as note
    from federome.network.match_releases import follow_release

    home = _home(folder)
    if stop:
        note(folder, dataset, None)
        tell({"followed": False}, f"{dataset} is followed no longer.", as_json)
        return
    if not person:
        raise Invalid("say which clinician holds the cases.", where="--person")
    people = open_holdings(folder, lambda: Ledger(()), time.time).unsolved(dataset)
    done = follow_release(home.desk.book, home.desk.measure, dataset, person, people)
    note(folder, dataset, person)
    said = (
        f"{done.registered} cases were registered or described anew, {done.unchanged} had not changed, "
        f"{done.withdrawn} were withdrawn, {done.unusable} have no usable term. New releases are followed by the node."
    )
    tell({"followed": True, **asdict(done)}, said, as_json)


def cases(
    folder: NodeDir,
    person: Clinician,
    case: Annotated[str, typer.Option("--case", help="How this one was described, and when that changed.")] = "",
    as_json: AsJson = False,
) -> None:
    """Your cases at this node, and who may find them; with --case, how one was described."""
    from datetime import UTC, datetime

    book = _home(folder).desk.book
    if case:
        told = [
            {"from": datetime.fromtimestamp(each.at, UTC).isoformat(), "added": each.added, "taken": each.taken}
            for each in book.history(case, person)
        ]
        lines = [f"{each['from']}: added {_words(each['added'])}; taken away {_words(each['taken'])}" for each in told]
        tell({"case": case, "descriptions": told}, "\n".join(lines), as_json)
        return
    rows: list[dict[str, Any]] = [
        {
            "case": each.name,
            "dataset": each.dataset,
            "terms": each.patient.observed,
            "genes": each.patient.genes,
            "can_be_found": each.shared,
        }
        for each in book.cases(person)
    ]
    lines = [
        f"{row['case']} ({row['dataset']}): HPO terms {_words(row['terms'])}; genes {_words(row['genes'])}"
        f"{'' if row['can_be_found'] else '; nobody can find it'}"
        for row in rows
    ]
    tell({"cases": rows}, "\n".join(lines) or "You hold no case here.", as_json)


def _words(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"


def withdraw(folder: NodeDir, person: Clinician, case: Name, as_json: AsJson = False) -> None:
    """Withdraw a case: nobody finds it from now on, and nobody is told of it."""
    _home(folder).desk.book.withdraw(case, person)
    tell({"withdrawn": case}, f"{case} is withdrawn.", as_json)


def find(
    folder: NodeDir,
    person: Clinician,
    case: Name,
    hub: Hub,
    key: Key,
    contract: Contract,
    datasets: Datasets,
    level: Level = "both",
    top: Annotated[int, typer.Option("--top", min=1, max=50, help="How many cases are listed.")] = 10,
    certificate: Certificate = None,
    session: Session = None,
    deadline: Deadline = 30.0,
    as_json: AsJson = False,
) -> None:
    """Find patients like a registered case at other nodes. Says which nodes did not answer, and why."""
    home = _home(folder)
    with _asker(home, person, case, hub, key, contract, datasets, certificate, session, deadline) as (asker, nodes):
        tables = home.desk.measure, home.desk.background
        merged = asker.match(nodes, *tables, level=level, top=top)
        chances, parts = asker.chances(merged, *tables, level=level), asker.parts(merged, *tables, level=level)
    rows = list(zip(merged.matches, chances, parts, strict=True))
    facts = {
        "matches": [
            {**asdict(m), "probability": round(chance, 3), "phenotype": [round(low, 2), round(high, 2)]}
            for m, chance, (low, high) in rows
        ],
        "silent": dict(merged.silent),
        "mismatched": dict(merged.mismatched),
    }
    lines = [
        f"{m.score:.2f}  {chance:4.0%}  {m.evidence:9}  {m.node}  {m.handle}{f'  ({m.kin})' if m.kin else ''}"
        for m, chance, _ in rows
    ] or ["Nobody was found at the nodes that answered."]
    lines += [f"{node} did not answer: {why}" for node, why in merged.silent.items()]
    lines += [f"{node} scores with other tables: {why}" for node, why in merged.mismatched.items()]
    tell(facts, "\n".join(lines), as_json)


def watch(
    folder: NodeDir,
    person: Clinician,
    case: Name,
    hub: Hub,
    key: Key,
    contract: Contract,
    datasets: Datasets,
    level: Level = "both",
    days: Annotated[int, typer.Option(min=1, max=365, help="How long the question stands.")] = 365,
    false_alerts: Annotated[float, typer.Option(min=1e-6, max=0.1, help="Expected at each arrival.")] = 1e-4,
    severity: Annotated[Literal["immediate", "digest"], typer.Option(help="At once, or once a day.")] = "immediate",
    infection: Annotated[bool, typer.Option("--infection", help="By the rule for severe infections.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Take the question back.")] = False,
    certificate: Certificate = None,
    session: Session = None,
    deadline: Deadline = 30.0,
    as_json: AsJson = False,
) -> None:
    """Leave a standing question about a case at other nodes, or take it back."""
    home = _home(folder)
    with _asker(home, person, case, hub, key, contract, datasets, certificate, session, deadline) as (asker, nodes):
        if stop:
            told = asker.unwatch(nodes)
        else:
            told = asker.watch(
                nodes,
                home.desk.measure,
                home.desk.background,
                level=level,
                days=days,
                rate=false_alerts,
                severity=severity,
                infection=infection,
            )
    _tell_watch(told, as_json=as_json)


def send(
    question: Annotated[Path, typer.Argument(help="A question file that your node's page has prepared.")],
    key: Key,
    contract: Contract,
    save: Annotated[Path, typer.Option("--save", help="Where to write the answers, for the page.")],
    certificate: Certificate = None,
    session: Session = None,
    deadline: Deadline = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Send it without asking again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send what your node's page prepared: show it, sign it when you say yes, and write the answers to a file.

    The page shows them when it is given that file. Your key stays here. With --json it is sent only with --yes.
    """
    from federome.client.care import open_care
    from federome.network.match_file import MatchFile
    from federome.network.match_question import method
    from federome.trust.keys import load_private_key

    asked = MatchFile.read(question)
    if not as_json:
        typer.echo("\n".join(asked.lines()), err=True)
    if not yes and (as_json or not typer.confirm("Sign and send it?", err=True)):
        tell({"sent": False}, "Nothing was sent.", as_json)
        return
    own = load_private_key(key)
    with open_care(
        asked.hub,
        key=own,
        person=asked.person,
        contract=contract,
        datasets=asked.datasets,
        method=method(),
        certificate=certificate,
        session=session,
        deadline_s=deadline,
    ) as care:
        told = asked.send(own, care.send, time.time)
    save.write_text(json.dumps(asked.answers(told)) + "\n")
    lines = [f"{node} answered." for node in told.answers]
    lines += [f"{node} did not answer: {why}" for node, why in told.silent.items()]
    lines.append(f"The answers are in {save}: give it to the page.")
    facts = {"sent": True, "answered": list(told.answers), "silent": dict(told.silent), "answers": str(save)}
    tell(facts, "\n".join(lines), as_json)


def _tell_watch(told: Told, *, as_json: bool) -> None:
    states = {node: str(answer["state"]) for node, answer in told.answers.items()}
    lines = [f"{node}: {state}" for node, state in states.items()]
    lines += [f"{node} did not answer: {why}" for node, why in told.silent.items()]
    tell({"nodes": states, "silent": dict(told.silent)}, "\n".join(lines), as_json)


def inbox(folder: NodeDir, person: Clinician, as_json: AsJson = False) -> None:
    """What has arrived for you: alerts to your questions, and contacts that others ask for about your cases."""
    home = _home(folder)
    alerts, waits = home.alerts.received(person), home.desk.waiting(person)
    lines = [
        f"{a.case}: a match at {a.node} ({a.evidence}{f', {a.kin}' if a.kin else ''}); "
        f"accept with --node {a.node} --handle {a.handle}"
        for a in alerts
    ]
    for w in waits:
        then = {"agreed": f"agreed: {w.address}", "open": "you have decided", "undecided": f"--handle {w.handle}"}
        lines.append(
            f"{w.case}: {w.home} has one like it ({w.evidence}{f', {w.kin}' if w.kin else ''}); {then[w.state]}"
        )
    facts = {"alerts": [asdict(a) for a in alerts], "contacts": [asdict(w) for w in waits]}
    tell(facts, "\n".join(lines) or "Nothing has arrived.", as_json)


def accept(
    folder: NodeDir,
    person: Clinician,
    handle: Annotated[str, typer.Option("--handle", help="From find or inbox.")],
    address: Annotated[str, typer.Option("--address", help="Where the other may reach you, told once both agree.")],
    node: Annotated[str, typer.Option("--node", help="The node that found it; none for a contact in your inbox.")] = "",
    case: Annotated[str, typer.Option("--case", help="Your case, with --node.")] = "",
    hub: Annotated[str, typer.Option("--hub", envvar="FEDEROME_HUB", help="The hub's address, with --node.")] = "",
    key: Annotated[Path | None, typer.Option("--key", envvar="FEDEROME_KEY", help="Your key, with --node.")] = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", envvar="FEDEROME_CONTRACT", help="The care contract, with --node.")
    ] = None,
    datasets: Annotated[list[str] | None, typer.Option("--datasets", help="NODE:DATASET, with --node.")] = None,
    certificate: Certificate = None,
    session: Session = None,
    deadline: Deadline = 30.0,
    as_json: AsJson = False,
) -> None:
    """Agree to be put in touch, and look how it stands. Silence and a refusal of the other are the same word."""
    home = _home(folder)
    if not node:
        _tell_contact(home.desk.decided(person, handle, yes=True, address=address), as_json=as_json)
        return
    if key is None or contract is None:
        raise Invalid("asking another node takes --key, --contract, --hub, --case and --datasets.", where="--node")
    words = datasets or []
    with _asker(home, person, case, hub, key, contract, words, certificate, session, deadline) as (asker, _nodes):
        contact = asker.contact(node, handle, yes=True, address=address)
        _tell_contact(contact, asker.reasons(contact, home.desk.measure), as_json=as_json)


def decline(
    folder: NodeDir,
    person: Clinician,
    handle: Annotated[str, typer.Option("--handle", help="From inbox.")],
    as_json: AsJson = False,
) -> None:
    """Decline a contact that is asked for about your case. The other side is not told."""
    _home(folder).desk.decided(person, handle, yes=False)
    tell({"state": "declined"}, "Declined. The other side is not told.", as_json)


def _tell_contact(contact: Contact, why: Explanation | None = None, *, as_json: bool) -> None:
    said = (
        f"Both agree. Write to {contact.address}." if contact.state == "agreed" else "Open: the other has not agreed."
    )
    facts: dict[str, object] = {"state": contact.state, "address": contact.address}
    if why is not None:
        both = "; ".join(f"{term.name} (1 in {term.one_in:,.0f})" for term in why.shared) or "no term"
        unlike = "; ".join(term.name for term in (*why.query_only, *why.candidate_only)) or "nothing"
        said += f"\nBoth: {both}. Genes: {', '.join(why.genes) or 'none'}. In one alone: {unlike}."
        facts["why"] = asdict(why)
    tell(facts, said, as_json)


def _home(folder: Path) -> Home:
    from federome.network.match_node import open_home

    return open_home(folder, time.time)


@contextmanager
def _asker(
    home: Home,
    person: str,
    case: str,
    hub: str,
    key: Path,
    contract: Path,
    datasets: list[str],
    certificate: Path | None,
    session: Path | None,
    deadline: float,
) -> Iterator[tuple[Asker, list[str]]]:
    from federome.client.care import open_care
    from federome.client.run import read_datasets
    from federome.network.match_question import method
    from federome.trust.keys import load_private_key

    asked = read_datasets(datasets)
    if not isinstance(asked, dict):
        raise Invalid("say which datasets are asked.", where="--datasets", remedy="--datasets FI:fi-1,ES:es-1")
    own = load_private_key(key)
    with open_care(
        hub,
        key=own,
        person=person,
        contract=contract,
        datasets=asked,
        method=method(),
        certificate=certificate,
        session=session,
        deadline_s=deadline,
    ) as care:
        yield home.asker(home.desk.book.case(case, person), own, care.send), list(asked)
