"""
Throw-away keys, certificates and kubeconfigs of one control plane.

``issue`` makes a certificate authority, a certificate for the API server, a client certificate and a bearer
token of an administrator, and a key for ServiceAccount tokens. The certificates are for one week. The
authority's own key is never stored.
"""

import base64
import ipaddress
import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sandbox.controlplane.certificates import (
    CertificateAuthority,
    certificate_pem,
    distinguished_name,
    key_pem,
    new_key,
)

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

ADMIN = "admin"
ADMINISTRATORS = "system:masters"
"""Members of this group may do everything, before and beside RBAC."""

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
    token_file: Path
    """The administrator's token, for ``--token-auth-file`` of kube-apiserver."""
    admin_token: str
    """The API server looks a token up. It verifies a client certificate again at each request."""

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a client."""
        return ssl.create_default_context(cafile=str(self.authority))

    def admin_user(self) -> dict[str, str]:
        """Return the administrator, by the certificate, as the ``user`` of a kubeconfig."""
        return {
            "client-certificate-data": _inline(self.admin_certificate),
            "client-key-data": _inline(self.admin_key),
        }

    def kubeconfig(self, *, url: str, user: dict[str, str], namespace: str) -> dict[str, object]:
        """Return a kubeconfig that needs no other file. ``user`` says who: ``{"token": ...}`` or
        ``admin_user()``."""
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
    """Make new credentials in ``folder``, which is created. The server's certificate is good for these
    addresses, too."""
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
        token_file=folder / "tokens.csv",
        admin_token=secrets.token_hex(32),
    )
    authority = CertificateAuthority("counterfoil throw-away CA")
    write_private(credentials.authority, certificate_pem(authority.certificate))

    server = new_key()
    names = [x509.DNSName(name) for name in SERVER_NAMES]
    addresses = [
        x509.IPAddress(ipaddress.ip_address(address)) for address in (*SERVER_ADDRESSES, *more_addresses)
    ]
    certificate = authority.sign(
        server,
        distinguished_name("kube-apiserver"),
        ExtendedKeyUsageOID.SERVER_AUTH,
        x509.SubjectAlternativeName([*names, *addresses]),
    )
    write_private(credentials.server_certificate, certificate_pem(certificate))
    write_private(credentials.server_key, key_pem(server))

    admin = new_key()
    administrators = distinguished_name(ADMIN, organization=ADMINISTRATORS)
    certificate = authority.sign(admin, administrators, ExtendedKeyUsageOID.CLIENT_AUTH)
    write_private(credentials.admin_certificate, certificate_pem(certificate))
    write_private(credentials.admin_key, key_pem(admin))
    write_private(
        credentials.token_file, f"{credentials.admin_token},{ADMIN},{ADMIN},{ADMINISTRATORS}\n".encode()
    )

    aggregator = new_key()
    certificate = authority.sign(aggregator, distinguished_name(AGGREGATOR), ExtendedKeyUsageOID.CLIENT_AUTH)
    write_private(credentials.aggregator_certificate, certificate_pem(certificate))
    write_private(credentials.aggregator_key, key_pem(aggregator))

    write_private(credentials.tokens_key, key_pem(new_key()))
    return credentials


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on. Who reads it meanwhile has the old
    content."""
    unfinished = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    unfinished.replace(path)


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
