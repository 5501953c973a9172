"""TLS for a deployment: a small certificate authority, a server certificate, and the keys SuperNodes sign in with."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAYS = 365
_PEM = serialization.Encoding.PEM


def authority(folder: Path, host: str) -> None:
    """Write a new authority to `folder` (`ca.crt`, `ca.key`), and the certificate of a server of that name."""
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vfl deployment")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(name, name, key.public_key()).add_extension(x509.BasicConstraints(True, 0), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    _private(folder / "ca.key", key)
    (folder / "ca.crt").write_bytes(certificate.public_bytes(_PEM))
    server_certificate(folder, folder, host)


def server_certificate(signer: Path, folder: Path, host: str) -> None:
    """Write `server.crt` and `server.key` for a server called `host`, signed by the authority in `signer`."""
    signing = serialization.load_pem_private_key((signer / "ca.key").read_bytes(), None)
    issuer = x509.load_pem_x509_certificate((signer / "ca.crt").read_bytes())
    key = ec.generate_private_key(ec.SECP384R1())
    try:
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(host)), x509.DNSName("localhost")]
    except ValueError:
        names = [x509.DNSName(host)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    builder = _builder(subject, issuer.subject, key.public_key())
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    certificate = builder.add_extension(identifier, critical=False).sign(signing, hashes.SHA256())  # type: ignore[arg-type]
    _private(folder / "server.key", key)
    (folder / "server.crt").write_bytes(certificate.public_bytes(_PEM))
    if folder != signer:
        (folder / "ca.crt").write_bytes((signer / "ca.crt").read_bytes())


def node_key(folder: Path) -> None:
    """Write the key pair that a SuperNode signs in with: `node.key` for it alone, `node.pub` to register."""
    key = ec.generate_private_key(ec.SECP384R1())
    _private(folder / "node.key", key, serialization.PrivateFormat.OpenSSH)
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    (folder / "node.pub").write_bytes(key.public_key().public_bytes(*openssh) + b"\n")


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=_DAYS))


def _private(
    path: Path, key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8
) -> None:
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(text)
