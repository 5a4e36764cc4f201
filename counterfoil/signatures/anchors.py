"""
Trust anchors: the certificates to which a signer's must lead, as an administrator put them into a Secret.

They are read here and handed on as they are. What leads to them is looked for in the examiners' processes
(``trust``): signers' certificates are untrusted.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


class AnchorsInvalid(ValueError):
    """These are no trust anchors; the message says which key of the Secret is wrong, never what is in it."""


@dataclass(frozen=True)
class Anchors:
    """Certificates in DER, each once and in order; none at all means that trust is not judged."""

    certificates: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, content: Mapping[str, bytes]) -> "Anchors":
        """Read all keys of a Secret, each with one certificate or several in PEM form. Raises
        ``AnchorsInvalid``."""
        found = {each for key in sorted(content) for each in _read(key, content[key])}
        if not found:
            raise AnchorsInvalid("it is empty")
        return cls(tuple(sorted(found)))

    @cached_property
    def id(self) -> str | None:
        """The SHA-256 (hex) of all together, by which manifests name them; None when there are none."""
        if not self.certificates:
            return None
        digests = (hashlib.sha256(each).digest() for each in self.certificates)
        return hashlib.sha256(b"".join(digests)).hexdigest()

    @cached_property
    def encoded(self) -> bytes:
        """As they are sent to an examiner; empty when there are none."""
        return msgspec.json.encode(self.certificates) if self.certificates else b""


NO_ANCHORS = Anchors()


def _read(key: str, text: bytes) -> list[bytes]:
    try:
        certificates = x509.load_pem_x509_certificates(text)
        return [each.public_bytes(Encoding.DER) for each in certificates]
    except ValueError as error:
        raise AnchorsInvalid(f"`{key}` in it is no certificate in PEM form") from error
