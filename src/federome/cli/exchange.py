"""Commands of the Matchmaker Exchange: ``federome match serve``, ``ask``, ``key``; ``match`` puts them on the tree."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federome.cli.edge import AsJson, read_json, read_object
from federome.cli.ontology import Chosen, installed
from federome.errors import Invalid

if TYPE_CHECKING:
    from federome.standards.mme_server import Verify
    from federome.trust.canonical import Json


def key(
    peer: Annotated[str, typer.Argument(help="Whom the key is for.")],
    keys: Annotated[Path, typer.Option("--keys", help="The file of keys; only digests are kept in it.")],
    as_json: AsJson = False,
) -> None:
    """Make an API key for a peer, print it once, keep its SHA-256."""
    import hashlib
    import secrets

    known = _digests(keys) if keys.exists() else {}
    made = secrets.token_urlsafe(32)
    known = {digest: name for digest, name in known.items() if name != peer}
    known[hashlib.sha256(made.encode()).hexdigest()] = peer
    keys.write_text(json.dumps(known, indent=1) + "\n")
    sys.stdout.write((json.dumps({"peer": peer, "key": made}) if as_json else made) + "\n")


def serve(
    patients: Annotated[Path, typer.Option("--patients", help="A JSON list of Matchmaker Exchange patients.")],
    keys: Annotated[Path, typer.Option("--keys", help="The file of keys, made by: federome match key")],
    issuer: Annotated[
        Path | None, typer.Option(help="Public key file of an OAuth issuer of JWT access tokens.")
    ] = None,
    audience: Annotated[str, typer.Option(help="What access tokens must name as their audience.")] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5060,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM); plain HTTP without one.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--key", help="Key of the certificate.")] = None,
    production: Annotated[bool, typer.Option("--production", help="Say that real patients are in it.")] = False,
    ontology: Chosen = None,
) -> None:
    """Serve patients as a Matchmaker Exchange 1.1 node: /match, /metrics, /heartbeat, until told to stop."""
    import time

    import uvicorn

    from federome.analysis.matching import Measure
    from federome.network.logs import reticent
    from federome.standards import mme
    from federome.standards.mme_server import Exchange, application, bearer
    from federome.trust.keys import KeyRing, PinnedKey, PublicKey

    verify: Verify = lambda _token: None  # noqa: E731
    if issuer is not None:
        told = read_object(issuer)
        jwk = told.get("jwk")
        if not isinstance(jwk, dict) or not audience:
            raise Invalid("an issuer needs a public key file and an audience.", where="--issuer")
        ring = KeyRing((PinnedKey(str(told.get("name", "issuer")), PublicKey.from_jwk(jwk)),))
        verify = bearer(ring, audience=audience, clock=time.time)
    exchange = Exchange(
        Measure.of(installed(ontology)),
        tuple(mme.read_entries(read_json(patients))),
        _digests(keys),
        time.time,
        production=production,
        verify=verify,
    )
    reticent()
    uvicorn.run(
        application(exchange),
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=str(tls_key) if tls_key else None,
        log_level="warning",
        access_log=False,
        server_header=False,
    )


def ask(
    patient: Annotated[Path, typer.Argument(help="A JSON file with one Matchmaker Exchange patient.")],
    peers: Annotated[Path, typer.Option("--peers", help="A JSON list of objects with name, url and key.")],
    as_json: AsJson = False,
) -> None:
    """Ask other nodes of the Matchmaker Exchange; who did not answer is named. Ends with 69 if nobody did."""
    import httpx2 as httpx

    from federome.standards.mme_client import Peer
    from federome.standards.mme_client import ask as ask_peers

    listed, document = read_json(peers), read_json(patient)
    if not isinstance(document, dict) or not isinstance(listed, list):
        raise Invalid("a patient is an object, peers are a list.", where=str(patient))
    known = [Peer(**{k: str(v) for k, v in each.items() if k in ("name", "url", "key")}) for each in _objects(listed)]
    with httpx.Client() as http:
        answers = ask_peers(known, document, http)
    if as_json:
        told = [{"peer": a.peer, "failed": a.failed, "results": [[s, d] for s, d in a.results]} for a in answers]
        sys.stdout.write(json.dumps({"answers": told}) + "\n")
    else:
        for answer in answers:
            said = answer.failed or f"{len(answer.results)} patients"
            sys.stdout.write(f"{answer.peer}: {said}\n")
            sys.stdout.writelines(f"  {score:.2f}  {document['id']}\n" for score, document in answer.results)
    if answers and all(answer.failed for answer in answers):
        raise typer.Exit(69)


def _objects(listed: list[Json]) -> list[dict[str, Json]]:
    found = [each for each in listed if isinstance(each, dict) and {"name", "url", "key"} <= each.keys()]
    if len(found) < len(listed):
        raise Invalid("a peer has name, url and key.", where="--peers")
    return found


def _digests(path: Path) -> dict[str, str]:
    told = read_json(path)
    if not isinstance(told, dict) or not all(isinstance(name, str) for name in told.values()):
        raise Invalid("this is not a file of keys.", where=str(path), remedy="It is made by: federome match key")
    return {digest: str(name) for digest, name in told.items()}
