"""Certificates of hubs and nodes: self-signed, pinned by those who dial, followed by the next one without a pause.

A next certificate lies beside the present one until it is shown, so that nodes can trust both meanwhile.
"""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx2 as httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from federome.errors import Invalid, Refused, Unavailable
from federome.network.files import replace_file

CERTIFICATE_DAYS: Final = 397
NEXT: Final = "next"


def make_certificate(folder: Path, *hosts: str) -> None:
    """A self-signed certificate (P-256) for these names and addresses, with its key readable by the owner only."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own: a client that trusts two of them must find the right one. Hosts are matched by the list below.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{hosts[0][:48]} {serial:x}"[:64])])
    now = datetime.now(UTC)
    alternatives = [_alternative(host) for host in dict.fromkeys((*hosts, "localhost", "127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = folder / "tls.key"
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "tls.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def next_certificate(keys: Path, *hosts: str) -> str:
    """Make the certificate that a hub will show next, beside the one it shows; gives it, for nodes to pin already."""
    place = keys / NEXT
    if not (place / "tls.pem").is_file():
        place.mkdir(mode=0o700, exist_ok=True)
        make_certificate(place, *hosts)
    return (place / "tls.pem").read_text()


def switch_certificate(keys: Path) -> str:
    """Show the next certificate from now on: a hub that is running does so at its next handshake. Gives it."""
    if not (keys / NEXT / "tls.pem").is_file():
        raise Invalid("no next certificate was made.", where=str(keys), remedy="Run: federome hub certificate")
    for name in ("tls.key", "tls.pem"):
        (keys / NEXT / name).replace(keys / name)
    return (keys / "tls.pem").read_text()


def pin_certificate(path: Path, pem: str) -> int:
    """Add a certificate of the hub to those that a node trusts; how many these are then. ``Invalid`` if it is none."""
    try:
        x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise Invalid("this is no certificate.", remedy="Give what federome hub certificate wrote.") from error
    held = path.read_text()
    if pem.strip() not in held:
        replace_file(path, f"{held.rstrip()}\n{pem.strip()}\n".encode())
    return path.read_text().count("BEGIN CERTIFICATE")


def fetch_certificate(address: str, expected: str) -> str:
    """The certificate that a hub shows, accepted only if this is its fingerprint."""
    url = httpx.URL(address)
    try:
        certificate = ssl.get_server_certificate((url.host, url.port or 443), timeout=20)
    except OSError as error:
        raise Unavailable("the hub is out of reach.", where=address, remedy="Is it being served?") from error
    if fingerprint(certificate) != expected:
        raise Refused(
            "somebody else answers at the hub's address.", codes=["issuer_untrusted"], remedy="Ask the hub's operator."
        )
    return certificate


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, in hexadecimal digits."""
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
