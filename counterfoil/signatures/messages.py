"""
The examination of a signed message (``.p7m``, activity SignAsP7M of eSAW): CMS signed data with its content.
(RFC 5652)

A message may have several signers. A message within a message is content: only the outer signatures are
examined. The document in the message is not read.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asn1crypto import cms, core, pem  # type: ignore[import-untyped]  # asn1crypto ships no types

MESSAGE_STARTS: Final = (b"\x30", b"MI", b"-----BEGIN")
"""Starts of a signed message: DER or BER, base64 and PEM. (RFC 5652, RFC 7468)"""


@dataclass(frozen=True)
class MessageSignature:
    """One signature of a message; the fields have the names of pyHanko's ``EmbeddedPdfSignature``."""

    signed_data: cms.SignedData
    """The message with this signature alone."""
    signer_info: cms.SignerInfo
    content: bytes
    content_type: str

    @property
    def self_reported_timestamp(self) -> datetime | None:
        """When it was made, by the signer's clock."""
        attributes = self.signer_info["signed_attrs"]
        times = (each["values"][0].native for each in attributes if each["type"].native == "signing_time")
        found: datetime | None = next(times, None)
        return found

    def digest(self) -> bytes:
        """Return the digest of the content by the algorithm of this signature."""
        algorithm = self.signer_info["digest_algorithm"]["algorithm"].native
        return hashlib.new(algorithm, self.content).digest()


def find_signed_data(content: bytes) -> cms.SignedData | None:
    """Return the signed data of a message; None for anything else, such as a PDF or a message that is cut."""
    is_pem = content.startswith(b"-----BEGIN")
    if not content.startswith(MESSAGE_STARTS) or (is_pem and not content.rstrip().endswith(b"-----")):
        return None
    try:
        if is_pem:
            _, _, content = pem.unarmor(content)
        elif content.startswith(b"MI"):
            content = base64.b64decode(b"".join(content.split()), validate=True)
        info = cms.ContentInfo.load(content, strict=True)
        signed = info["content"] if info["content_type"].native == "signed_data" else None
        # Everything is read now: a structure that is broken further inside is no message.
        return signed if signed is not None and signed["signer_infos"].native is not None else None
    except Exception:
        # An untrusted file can make a parser raise any error.
        return None


def content_of(signed: cms.SignedData) -> bytes | None:
    """Return the document that was signed; None for a message that does not contain it."""
    content = signed["encap_content_info"]["content"]
    return None if isinstance(content, core.Void) else bytes(content)


def signatures_of(signed: cms.SignedData, content: bytes) -> Iterator[MessageSignature]:
    """Return each signature of a message. Raises what the parser raises."""
    content_type = signed["encap_content_info"]["content_type"].native
    for signer in signed["signer_infos"]:
        alone = cms.SignedData(
            {
                "version": signed["version"],
                "digest_algorithms": signed["digest_algorithms"],
                "encap_content_info": {"content_type": content_type},
                "certificates": signed["certificates"],
                "signer_infos": [signer],
            }
        )
        yield MessageSignature(alone, signer, content, content_type)
