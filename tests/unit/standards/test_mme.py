"""The Matchmaker Exchange face: its 50 test patients, every error code, versions, keys, tokens, and our own client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient
from tests.unit.analysis.test_matching import LEAVES, MEASURE

from federome.analysis.matching import Measure
from federome.errors import Invalid
from federome.ingest import ontologies
from federome.model.genes import approved
from federome.standards import mme
from federome.standards.mme_client import Peer, ask
from federome.standards.mme_server import Exchange, application, bearer
from federome.trust.keys import KeyRing, PinnedKey, generate
from federome.trust.signing import sign

NOW = 1_900_000_000.0
KEY = "a-peer-s-key"
KEYS = {hashlib.sha256(KEY.encode()).hexdigest(): "peer"}
KIND = mme.media_type("1.1")
GOOD = {"X-Auth-Token": KEY, "Content-Type": KIND, "Accept": KIND}
CONTACT = {"name": "A. Doctor", "href": "mailto:doctor@example.org", "institution": "X"}


def patient(name: str, terms: list[str], genes: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    features = [{"id": term} for term in terms]
    return {
        "id": name,
        "contact": CONTACT,
        "features": features,
        "genomicFeatures": [{"gene": {"id": gene}} for gene in genes],
        **more,
    }


STORED = [
    patient("real", LEAVES[250:255], ("KARS",)),
    patient("other", LEAVES[20:24], ("G2",)),
    patient("fake", LEAVES[250:255], ("KARS",), test=True),
]


def exchange(**more: Any) -> Exchange:
    return Exchange(MEASURE, tuple(mme.read_entries(STORED)), KEYS, lambda: NOW, **more)


def client(node: Exchange | None = None) -> TestClient:
    return TestClient(application(node or exchange()))


def post(body: object, headers: Mapping[str, str] = GOOD, http: TestClient | None = None) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (http or client()).post("/match", content=content, headers=dict(headers))


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [result["patient"]["id"] for result in answer.json()["results"]]


def test_a_match_shows_the_patient_and_its_score() -> None:
    answer = post({"patient": patient("real", LEAVES[250:255], ("KARS1",))})
    assert ids(answer)[0] == "real"  # a peer's ids are its own
    assert answer.headers["content-type"] == KIND
    best = answer.json()["results"][0]
    assert 0.5 < best["score"]["patient"] <= 1 and best["patient"]["contact"] == CONTACT
    assert best["score"]["patient"] == round(best["score"]["patient"], 2)
    assert answer.json()["disclaimer"] and answer.json()["terms"]


def test_tests_meet_tests_only_and_tell_nobody() -> None:
    told: list[str] = []
    node = exchange(notify=lambda asked, found: told.append(f"{asked.patient.id}: {len(found)}"))
    http = client(node)
    assert ids(post({"patient": patient("q", LEAVES[250:255], test=True)}, http=http)) == ["fake"]
    assert told == [] and node.counters.received == 0
    assert "fake" not in ids(post({"patient": patient("q", LEAVES[250:255])}, http=http))
    assert len(told) == 1 and node.counters.received == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", GOOD, 400),
        ([], GOOD, 400),
        ({"patient": STORED[0]}, {k: v for k, v in GOOD.items() if k != "X-Auth-Token"}, 401),
        ({"patient": STORED[0]}, {**GOOD, "X-Auth-Token": "guess"}, 401),
        ({"patient": STORED[0]}, {**GOOD, "Accept": mme.media_type("9.0")}, 406),
        ({"patient": STORED[0]}, {**GOOD, "Content-Type": "text/plain"}, 415),
        ({"patient": STORED[0]}, {**GOOD, "Content-Type": mme.media_type("9.0")}, 415),
        ({}, GOOD, 422),
        ({"patient": {k: v for k, v in STORED[0].items() if k != "contact"}}, GOOD, 422),
        ({"patient": {"id": "x", "contact": CONTACT}}, GOOD, 422),
        ({"patient": patient("x", ["flat feet"])}, GOOD, 422),
        ({"patient": patient("x", [LEAVES[3]], test="yes")}, GOOD, 422),
        ({"patient": {**STORED[0], "genomicFeatures": [{"gene": {}}]}}, GOOD, 422),
        (
            {"patient": {**STORED[0], "genomicFeatures": [{"gene": {"id": "G"}, "variant": {"assembly": "hg38"}}]}},
            GOOD,
            422,
        ),
        (b" " * (3 << 20), GOOD, 413),
    ],
)
def test_every_error_has_its_code_and_says_why(body: object, headers: dict[str, str], status: int) -> None:
    answer = post(body, headers)
    assert answer.status_code == status
    assert answer.json()["message"] and "flat feet" not in answer.text
    if status in (406, 415):
        assert answer.json()["supportedVersions"] == ["1.1", "1.0"]


def test_other_methods_and_paths() -> None:
    http = client()
    for method in ("GET", "PUT", "DELETE"):
        answer = http.request(method, "/match", headers=GOOD)
        assert answer.status_code == 405 and "POST" in answer.headers["allow"]
    assert http.get("/nowhere").status_code == 404


def test_versions_are_negotiated() -> None:
    old = mme.media_type("1.0")
    answer = post({"patient": STORED[0]}, {**GOOD, "Accept": old, "Content-Type": old})
    assert answer.status_code == 200 and answer.headers["content-type"] == old
    assert post({"patient": STORED[0]}, {**GOOD, "Accept": f"{old}, {KIND}"}).headers["content-type"] == KIND
    assert post({"patient": STORED[0]}, {**GOOD, "Accept": "*/*"}).headers["content-type"] == KIND


def test_heartbeat_and_metrics() -> None:
    http = client()
    assert http.get("/heartbeat").json()["heartbeat"] == {
        "production": False,
        "version": "1.1",
        "accept": ["1.1", "1.0"],
    }
    post({"patient": STORED[0]}, http=http)
    told = http.get("/metrics").json()["metrics"]
    assert told["numberOfCases"] == 2 and told["numberOfUniqueGenes"] == 2 and told["numberOfRequestsReceived"] == 1
    assert http.get("/metrics", headers={"Accept": mme.media_type("7.0")}).status_code == 406


def test_bearer_tokens_of_a_pinned_issuer() -> None:
    key, stranger = generate("Ed25519"), generate("Ed25519")
    verify = bearer(KeyRing((PinnedKey("idp", key.public),)), audience="mme.example", clock=lambda: NOW)
    http = client(exchange(verify=verify))
    claims: dict[str, Any] = {"iat": NOW - 5, "exp": NOW + 60, "aud": "mme.example", "sub": "peer"}
    plain = {"Content-Type": KIND, "Accept": KIND}

    def code(signer: Any, said: dict[str, Any], typ: str = "at+jwt") -> int:
        token = sign(said, signer, typ=typ)
        return int(post({"patient": STORED[0]}, {**plain, "Authorization": f"Bearer {token}"}, http).status_code)

    assert code(key, claims) == 200
    assert code(stranger, claims) == 401 and code(key, claims, "other+jwt") == 401
    assert code(key, {**claims, "aud": "elsewhere"}) == 401 and code(key, {**claims, "exp": NOW - 1}) == 401


def test_nothing_usable_is_not_an_empty_list_without_a_word() -> None:
    answer = post({"patient": patient("q", ["HP:9999999"])})
    assert ids(answer) == [] and any("not the same as no match" in note for note in answer.json()["_notes"])
    assert any("KARS is withdrawn" in n for n in post({"patient": STORED[0]}).json()["_notes"])
    assert approved(["MLL2", "BRCA1", "no gene!"]) == (
        ("KMT2D", "BRCA1"),
        ("MLL2 is withdrawn and was read as KMT2D", "a gene was left out: it is no symbol"),
    )


@pytest.mark.parametrize("assembly", ["NCBI36", "GRCh37"])
def test_variants_on_other_assemblies_and_terms_beyond_the_limit_are_named(assembly: str) -> None:
    variant = {"assembly": assembly, "referenceName": "1", "start": 5, "referenceBases": "A", "alternateBases": "G"}
    asked = patient("q", LEAVES[:260], test=True)
    asked["genomicFeatures"] = [{"gene": {"id": "KARS1"}, "variant": variant}]
    answer = post({"patient": asked})
    assert ids(answer)[0] == "fake"  # the gene and the most specific terms were used
    notes = answer.json()["_notes"]
    assert sum("was ignored" in note for note in notes) == 60 and any("beyond the limit" in note for note in notes)
    assert f"a variant on {assembly} was left out: variants are compared on GRCh38" in notes


def test_two_patients_of_one_id_are_refused() -> None:
    with pytest.raises(Invalid):
        mme.read_entries([STORED[0], STORED[0]])


def test_our_client_asks_everybody_and_names_who_failed() -> None:
    node = client()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "away":
            raise httpx.ConnectError("no")
        if request.url.host == "broken":
            return httpx.Response(200, content=b'{"results": [{"score": {"patient": 7}}]}')
        if request.url.host == "old" and "v1.1" in request.headers["accept"]:
            return httpx.Response(406)
        answer = node.post("/match", content=request.content, headers=dict(request.headers))
        return httpx.Response(answer.status_code, content=answer.content)

    peers = [Peer(name, f"https://{name}", KEY) for name in ("good", "old", "away", "broken")]
    peers.append(Peer("shut", "https://good", "another key"))
    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        answers = {each.peer: each for each in ask(peers, STORED[0], http)}
    assert answers["good"].results[0][1]["id"] == "real" == answers["old"].results[0][1]["id"]
    assert "reached" in answers["away"].failed and "not one of the exchange" in answers["broken"].failed
    assert "401" in answers["shut"].failed


def lacking(document: dict[str, Any]) -> dict[str, Any]:
    """Without variants that lack a start: some of the exchange's own test patients break its own schema there."""
    for result in document["results"]:
        for feature in result["patient"]["genomicFeatures"]:
            if "start" not in feature.get("variant", {"start": 0}):
                del feature["variant"]
    return document


@pytest.fixture(scope="module")
def published(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TestClient, list[dict[str, Any]]]:
    """The 50 test patients on the published ontology."""
    folder = tmp_path_factory.mktemp("ontology")
    installed = ontologies.install(ontologies.from_folder(shared / "data" / "rare-disease"), folder)
    patients = json.loads((shared / "data" / "mme" / "benchmark_patients.json").read_text())
    node = Exchange(Measure.of(ontologies.load(installed.folder)), tuple(mme.read_entries(patients)), KEYS, lambda: NOW)
    return client(node), patients


def test_all_fifty_test_patients_find_themselves_and_then_their_disorder(
    published: tuple[TestClient, list[dict[str, Any]]], shared: Path
) -> None:
    import jsonschema

    schema = json.loads((shared / "standards" / "mme" / "api.schema.json").read_text())
    response = {**schema, **schema["definitions"]["response"]} if "response" in schema["definitions"] else None
    http, patients = published
    assert len(patients) == 50
    disorder = {p["id"]: {d["id"] for d in p.get("disorders", [])} for p in patients}
    gene = {p["id"]: {g["gene"]["id"] for g in p["genomicFeatures"]} for p in patients}
    seconds = []
    for each in patients:
        answer = post({"patient": each}, http=http)
        found = ids(answer)
        assert found[0] == each["id"] or answer.json()["results"][0]["score"]["patient"] == 1.0
        assert each["id"] in found
        if response is not None:
            jsonschema.validate(lacking(answer.json()), response)
        mates = [
            o for o in gene if o != each["id"] and (gene[o] & gene[each["id"]] or disorder[o] & disorder[each["id"]])
        ]
        if mates:
            seconds.append(next(o for o in found if o != each["id"]) in mates)
    assert len(seconds) > 30 and sum(seconds) / len(seconds) >= 0.95
