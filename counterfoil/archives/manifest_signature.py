"""
The seal: a detached Ed25519 signature of the manifest, by a key of the operator's.

It lies beside the manifest as 64 plain bytes, so that OpenSSL alone can check it in ten years:
``openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in counterfoil.json -sigfile
counterfoil.json.sig``.

While a manifest is replaced, the file has the seals of both, one after the other: at each instant the stored
one has a seal that fits. After the new seal comes a label of 64 bytes, which names its manifest. So a run
with another key, which can't check the seals, keeps that of the stored manifest.
"""

import hashlib
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEAL_SIZE: Final = 64
"""Bytes of a seal, and of a label."""

DIGEST_SIZE: Final = 32
"""Bytes of a SHA-256."""

MAX_SEALS: Final = 8
"""Maximum number of seals and labels in a file. Counterfoil needs five: a new seal, that of the stored
manifest, their labels, and the seal of an earlier manifest, which had no label."""


class TooManySeals(Exception):
    """A file has more seals than Counterfoil writes, and any of them may be that of the stored manifest."""


class SigningKeyInvalid(ValueError):
    """The file has no key that can be used; the message names the problem, never the content."""


class PublicKey:
    """The public key that verifies seals."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> "PublicKey":
        """Read a PEM file (``openssl pkey -pubout``). Raises ``SigningKeyInvalid``."""
        content = _read_key_file(path)
        try:
            key = serialization.load_pem_public_key(content)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SigningKeyInvalid(f"{path} is no public key in PEM form") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SigningKeyInvalid(f"{path} is no Ed25519 key")
        return cls(key)

    @property
    def id(self) -> str:
        """Which key it is: the first 16 hex digits of the SHA-256 of its 32 bytes."""
        return hashlib.sha256(self._key.public_bytes_raw()).hexdigest()[:16]

    def fitting(self, seals: bytes, content: bytes) -> tuple[bytes, ...]:
        """Return the seals of a file, first one of this content by this key; empty: there is none."""
        found = split_seals(seals)
        for each in found:
            if self.verifies(each, content):
                return each, *(other for other in found if other != each)
        return ()

    def verifies(self, seal: bytes, content: bytes) -> bool:
        """Whether this one seal is of this content by this key."""
        try:
            self._key.verify(seal, content)
        except InvalidSignature:
            return False
        return True


class ManifestSigner:
    """The private key that makes seals."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def load(cls, path: Path) -> "ManifestSigner":
        """Read a PEM file without a password (``openssl genpkey -algorithm ed25519``). Raises
        ``SigningKeyInvalid``."""
        content = _read_key_file(path)
        try:
            key = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SigningKeyInvalid(f"{path} is no private key in PEM form without a password") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyInvalid(f"{path} is no Ed25519 key")
        return cls(key)

    def sign(self, content: bytes) -> bytes:
        """Return the 64 bytes of a seal; the same content always has the same one."""
        return self._key.sign(content)


def label_of(seal: bytes, manifest_sha256: str) -> bytes:
    """
    Return the label of a seal: the SHA-256 of its manifest and then of the seal itself.

    It proves nothing. Who can write a wrong one can remove the seal as well.
    """
    return bytes.fromhex(manifest_sha256) + hashlib.sha256(seal).digest()


def seals_to_keep(content: bytes, manifest_sha256: str) -> tuple[bytes, ...]:
    """
    Return the seals and labels in a file that stay beside a new seal and its label: each one that may be of
    the stored manifest, which has this SHA-256. While there is room, those of other manifests stay as well,
    newest first: one may arrive late.

    Empty: the file has something else. Raises ``TooManySeals``.
    """
    if len(content) > MAX_SEALS * SEAL_SIZE:
        raise TooManySeals
    found: list[tuple[bytes, ...]] = []
    """Each seal, with its label if it has one."""
    for each in split_seals(content):
        if found and each == label_of(found[-1][0], each[:DIGEST_SIZE].hex()):
            found[-1] = (*found[-1], each)
        else:
            found.append((each,))
    others = [each for each in found if len(each) > 1 and each[1][:DIGEST_SIZE].hex() != manifest_sha256]
    room = MAX_SEALS - 2 - sum(len(each) for each in found if each not in others)
    if room < 0:
        raise TooManySeals
    late = others[: room // 2]
    return tuple(block for each in found if each not in others or each in late for block in each)


def split_seals(content: bytes) -> tuple[bytes, ...]:
    """Return the seals and labels in a file; empty: it has something else."""
    if len(content) not in {SEAL_SIZE * count for count in range(1, MAX_SEALS + 1)}:
        return ()
    return tuple(content[start : start + SEAL_SIZE] for start in range(0, len(content), SEAL_SIZE))


def _read_key_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningKeyInvalid(f"{path} can't be read: {error.strerror}") from error
