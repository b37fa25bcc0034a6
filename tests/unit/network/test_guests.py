"""Passports at a face's door: who is registered, who holds a grant, and whose passport does not stand up."""

from __future__ import annotations

import pytest

from federome.errors import Refused
from federome.governance.case import NodePolicy
from federome.governance.evidence import Anchors
from federome.governance.jwks import KeyCache
from federome.governance.passports import GRANTS, RESEARCHER, TERMS, Clearinghouse
from federome.network.guests import Guests
from federome.network.issuing import Issuer, VisaOf
from federome.trust.keys import KeyRing, generate

NOW = 1_793_620_000.0
URL = "https://beacon.example/api"
TERM = "https://doi.org/10.1038/s41431-018-0219-y"
BROKER = Issuer("https://login.example", generate("ES256"))
STRANGER = Issuer("https://elsewhere.example", generate("ES256"))
REGISTERED = (VisaOf(RESEARCHER, TERM, by="so"), VisaOf(TERMS, TERM, by="self"))
GRANT = VisaOf(GRANTS, f"{URL}/datasets/fi", by="dac")


class _Access:
    """A node's policy and keys, at hand."""

    def policy(self) -> NodePolicy:
        return NodePolicy(clearinghouse=Clearinghouse((BROKER.trust(),)))

    def anchors(self) -> Anchors:
        return Anchors(KeyRing(()), KeyCache(lambda _url: BROKER.key_set()))


@pytest.fixture
def guests() -> Guests:
    return Guests(_Access(), "FI", URL, lambda: NOW)  # type: ignore[arg-type]


def shown(*visas: VisaOf, by: Issuer = BROKER, **options: object) -> str:
    signed = [by.visa("ada", visa, now=NOW) for visa in visas]
    return "Bearer " + by.passport("ada", signed, now=NOW, **options)  # type: ignore[arg-type]


def test_who_asks(guests: Guests) -> None:
    assert guests("") == guests("")
    assert not guests("").registered and guests("").account == "public"
    plain = guests(shown())
    assert not plain.registered and not plain.datasets and plain.account != "public"
    assert guests(shown(*REGISTERED)).registered
    assert not guests(shown(REGISTERED[0])).registered  # both visas are needed
    holder = guests(shown(GRANT))
    assert holder.datasets == {"fi"} and holder.may("controlled", "fi") and not holder.may("registered", "es")
    assert guests(shown(VisaOf(GRANTS, "urn:federome:FI:fi", by="dac"))).datasets == {"fi"}


@pytest.mark.parametrize(
    "value",
    ["https://other.example/api/datasets/fi", "urn:federome:ES:fi", "fi", f"{URL}/cohorts/fi"],
)
def test_grants_for_data_elsewhere_do_not_count(value: str, guests: Guests) -> None:
    assert not guests(shown(VisaOf(GRANTS, value, by="dac"))).datasets


def test_a_grant_of_nobody_in_charge_does_not_count(guests: Guests) -> None:
    assert not guests(shown(VisaOf(GRANTS, f"{URL}/datasets/fi", by="self"))).datasets


@pytest.mark.parametrize(
    "header",
    [
        "Basic abc",
        "Bearer",
        "Bearer nonsense",
        shown(*REGISTERED, by=STRANGER),
        shown(*REGISTERED, audience=["ES"]),
        shown(*REGISTERED, life_s=-60),
    ],
)
def test_a_passport_that_does_not_stand_up_is_refused(header: str, guests: Guests) -> None:
    with pytest.raises(Refused):
        guests(header)
