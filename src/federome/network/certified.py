"""The certificate that a client showed in the TLS handshake, handed on to whoever answers its requests.

The server (uvicorn) checks it and keeps it to itself. Here it is put into the state of each request of the connection.
It comes from the handshake and never from a header, so a proxy in front that ends TLS ends this way of logging in, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from ssl import CERT_OPTIONAL, DER_cert_to_PEM_cert
from typing import Final, TypedDict

from federome.network.files import replace_file
from federome.network.gathered import Gathered
from federome.trust.certificates import ClientCertificate

CLIENT_CERTIFICATE: Final = "federome.client_certificate"


class Certified(Gathered):
    """HTTP as uvicorn speaks it, with the client's certificate in the state of every request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection: its handshake is done, and whatever certificate there is was checked."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if der is not None:
            self.app_state = {**self.app_state, CLIENT_CERTIFICATE: der}


class Options(TypedDict, total=False):
    """What is told to uvicorn."""

    http: type[asyncio.Protocol]
    ssl_cert_reqs: int
    ssl_ca_certs: str


def certified_options(certificates: Iterable[ClientCertificate], folder: Path) -> Options:
    """How a server speaks HTTP and asks for these certificates, and for no other; for none, if there are none."""
    pems = [DER_cert_to_PEM_cert(one.der) for one in certificates]
    if not pems:
        return {"http": Gathered}
    path = folder / "clients.pem"
    replace_file(path, "".join(pems).encode())
    return {"http": Certified, "ssl_cert_reqs": int(CERT_OPTIONAL), "ssl_ca_certs": str(path)}
