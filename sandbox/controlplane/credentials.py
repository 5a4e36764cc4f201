"""
Throw-away keys, certificates and kubeconfigs of one control plane.

``issue`` makes a certificate authority, a certificate for the API server, a client certificate of an administrator
and a key for ServiceAccount tokens, all for one week. The authority's own key is never stored.
"""

import base64
import datetime
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE_LIFETIME = datetime.timedelta(days=7)
SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
SERVER_ADDRESSES = (
    "127.0.0.1",
    "10.0.0.1",
)  # the second: the Service `kubernetes`, first of the service range


AGGREGATOR = "aggregator"
"""Under whose name the API server passes requests on."""


@dataclass(frozen=True)
class ControlPlaneCredentials:
    """Paths of the files. All are readable by their owner only."""

    authority: Path
    server_certificate: Path
    server_key: Path
    admin_certificate: Path
    admin_key: Path
    aggregator_certificate: Path
    """By which the API server shows itself to servers behind it, such as metrics-server."""
    aggregator_key: Path
    tokens_key: Path

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a client that is the administrator."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.admin_certificate, self.admin_key)
        return context

    def admin_user(self) -> dict[str, str]:
        """Return the administrator as the ``user`` of a kubeconfig."""
        return {
            "client-certificate-data": _inline(self.admin_certificate),
            "client-key-data": _inline(self.admin_key),
        }

    def kubeconfig(self, *, url: str, user: dict[str, str], namespace: str) -> dict[str, object]:
        """Return a kubeconfig that needs no other file. ``user`` says who: ``{"token": ...}`` or ``admin_user()``."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "counterfoil",
            "clusters": [
                {
                    "name": "counterfoil",
                    "cluster": {"server": url, "certificate-authority-data": _inline(self.authority)},
                }
            ],
            "users": [{"name": "counterfoil", "user": user}],
            "contexts": [
                {
                    "name": "counterfoil",
                    "context": {"cluster": "counterfoil", "user": "counterfoil", "namespace": namespace},
                }
            ],
        }


def issue(folder: Path, *more_addresses: str) -> ControlPlaneCredentials:
    """Make new credentials in ``folder``, which is created. The server's certificate is good for these addresses, too."""
    folder.mkdir(mode=0o700)
    credentials = ControlPlaneCredentials(
        authority=folder / "ca.crt",
        server_certificate=folder / "server.crt",
        server_key=folder / "server.key",
        admin_certificate=folder / "admin.crt",
        admin_key=folder / "admin.key",
        aggregator_certificate=folder / "aggregator.crt",
        aggregator_key=folder / "aggregator.key",
        tokens_key=folder / "tokens.key",
    )
    authority = _CertificateAuthority()
    write_private(credentials.authority, _pem(authority.certificate))

    server = _new_key()
    names = [x509.DNSName(name) for name in SERVER_NAMES]
    addresses = [
        x509.IPAddress(ipaddress.ip_address(address)) for address in (*SERVER_ADDRESSES, *more_addresses)
    ]
    certificate = authority.sign(
        server,
        _subject("kube-apiserver"),
        ExtendedKeyUsageOID.SERVER_AUTH,
        x509.SubjectAlternativeName([*names, *addresses]),
    )
    write_private(credentials.server_certificate, _pem(certificate))
    write_private(credentials.server_key, _pem_of_key(server))

    admin = _new_key()
    # Members of this group may do everything, before and beside RBAC.
    subject = _subject("admin", organization="system:masters")
    write_private(
        credentials.admin_certificate, _pem(authority.sign(admin, subject, ExtendedKeyUsageOID.CLIENT_AUTH))
    )
    write_private(credentials.admin_key, _pem_of_key(admin))

    aggregator = _new_key()
    certificate = authority.sign(aggregator, _subject(AGGREGATOR), ExtendedKeyUsageOID.CLIENT_AUTH)
    write_private(credentials.aggregator_certificate, _pem(certificate))
    write_private(credentials.aggregator_key, _pem_of_key(aggregator))

    write_private(credentials.tokens_key, _pem_of_key(_new_key()))
    return credentials


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


class _CertificateAuthority:
    """A certificate authority whose key lives in this object only."""

    def __init__(self) -> None:
        self._key = _new_key()
        self._name = _subject("counterfoil throw-away CA")
        self.certificate = (
            _certificate(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        purpose: x509.ObjectIdentifier,
        *extensions: x509.ExtensionType,
    ) -> x509.Certificate:
        """Certify a key for one purpose."""
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _certificate(subject, self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(issuer, critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks of virtual machines jump
        .not_valid_after(now + CERTIFICATE_LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str, organization: str | None = None) -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(names)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        # SEC 1, which kube-apiserver reads for ServiceAccount keys as well.
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
