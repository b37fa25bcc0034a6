"""An issuer of passports and visas: real ES256 signatures that a GA4GH clearinghouse reads (Passport 1.2.1).

The hub signs its grants with it (``desk.py``): visa documents that name their key address, and a broker's passport
around them. A node believes what its ``access.toml`` trusts. The development identity provider stands on the same
code, with a key that nothing else should ever trust.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from joserfc import jws

from federome.governance.passports import GRANTS, LINKED, PASSPORT_TYPE, RESEARCHER, TERMS, IssuerTrust, VisaTrust
from federome.model.strict import Document, Identifier
from federome.trust.canonical import Json, JsonValue, canonical
from federome.trust.keys import PrivateKey

VISA_TYPE = "vnd.ga4gh.visa+jwt"
AFFILIATION = "AffiliationAndRole"
ALL_TYPES = (AFFILIATION, TERMS, RESEARCHER, GRANTS, LINKED)
PASSPORT_LIFE_S = 3600
VISA_LIFE_S = 30 * 86_400


@dataclass(frozen=True)
class VisaOf(Document):
    """A visa that a person holds: what it says. ``source`` is the issuer itself where it is not given."""

    type: Identifier
    value: Identifier
    by: Identifier = "system"
    source: Identifier | None = None


@dataclass(frozen=True)
class Issuer:
    """Signs as ``url``, which is the address of its key set without ``/jwks``."""

    url: str
    key: PrivateKey

    @property
    def key_url(self) -> str:
        """Where its key set is."""
        return f"{self.url}/jwks"

    def key_set(self) -> dict[str, Json]:
        """Its key set."""
        return {"keys": [{**self.key.public.jwk(), "use": "sig", "alg": self.key.algorithm}]}

    def trust(self) -> IssuerTrust:
        """What a node writes to believe this issuer's passports and every type of visa of its own."""
        return IssuerTrust(self.url, (self.key_url,), True, tuple(VisaTrust(kind, (self.url,)) for kind in ALL_TYPES))

    def visa(self, sub: str, visa: VisaOf, *, now: float, life_s: float = VISA_LIFE_S) -> str:
        """One signed visa of a person."""
        claim: dict[str, JsonValue] = {
            "type": visa.type,
            "asserted": int(now) - 60,
            "value": visa.value,
            "source": visa.source or self.url,
            "by": visa.by,
        }
        claims: dict[str, JsonValue] = {"sub": sub, "ga4gh_visa_v1": claim, **self._times(now, life_s)}
        return self._signed({"typ": VISA_TYPE, "jku": self.key_url}, claims)

    def passport(
        self,
        sub: str,
        visas: Sequence[str],
        *,
        now: float,
        audience: Sequence[str] = (),
        life_s: float = PASSPORT_LIFE_S,
    ) -> str:
        """A broker's passport. With an ``audience`` it serves at these nodes only, whoever gets hold of it."""
        claims: dict[str, JsonValue] = {"sub": sub, "ga4gh_passport_v1": list(visas), **self._times(now, life_s)}
        if audience:
            claims["aud"] = list(audience)
        return self._signed({"typ": PASSPORT_TYPE}, claims)

    def token(self, claims: Mapping[str, JsonValue], *, typ: str, now: float, life_s: float) -> str:
        """Any other token, such as an ID token."""
        return self._signed({"typ": typ}, {**claims, **self._times(now, life_s)})

    def _times(self, now: float, life_s: float) -> dict[str, JsonValue]:
        return {"iss": self.url, "iat": int(now), "exp": int(now + life_s)}

    def _signed(self, header: Mapping[str, str], claims: Mapping[str, JsonValue]) -> str:
        full = {"alg": self.key.algorithm, "kid": self.key.kid, **header}
        return jws.serialize_compact(full, canonical(claims), self.key.material, algorithms=["ES256"])
