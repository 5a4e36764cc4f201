"""Keys for seals, as an operator makes them with OpenSSL."""

import functools
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from counterfoil.archives.manifest_signature import ManifestSigner


def a_signer(number: int = 1) -> ManifestSigner:
    return ManifestSigner(_key(number))


def private_pem(number: int = 1) -> bytes:
    return _key(number).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(number: int = 1) -> bytes:
    return (
        _key(number)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def key_file(folder: Path, content: bytes) -> Path:
    path = folder / "key.pem"
    path.write_bytes(content)
    return path


def _key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


@functools.cache
def rsa_private_pem() -> str:
    """
    A key as Google's console gives one for a service account, but shorter.

    Each reader of a key examines it: 41 ms of CPU for 2048 bits, 6 ms for these.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
