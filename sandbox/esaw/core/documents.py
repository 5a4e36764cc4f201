"""
Documents: real signed PDFs, their audit trails, and the authority that certifies the signatures.

Signing takes 50 ms, thousands of envelopes must not: each kind of page is signed once per process, with a
mark in an unsigned attribute of the signature. Each file is that PDF with a unique mark, so that no two files
have the same bytes and every signature is still intact, trusted, and covers the whole document.

It does not keep files (store does) and does not depend on HTTP.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from xml.sax.saxutils import quoteattr

from asn1crypto import cms, core, keys  # type: ignore[import-untyped]  # asn1crypto ships no types
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.sign import signers
from pyhanko.sign.attributes import CMSAttributeProvider, UnsignedAttributeProviderSpec
from pyhanko_certvalidator.registry import SimpleCertificateStore

from sandbox.esaw.core.content import CHUNK, Generated

_MARK = hashlib.sha256(b"the mark of the template").digest()
_MARK_TYPE = "1.3.6.1.4.1.55555.1"  # a private enterprise number of nobody's, for the unsigned attribute
_CERTIFICATE_LIFE = timedelta(days=365)


class NotAPdf(ValueError):
    """These bytes cannot be read as a PDF."""


@dataclass(frozen=True, slots=True)
class SignedPdf:
    """A small signed PDF that differs from all others by its mark."""

    title: str
    pages: int
    mark: bytes
    """32 bytes."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(_template(self.title, self.pages)[0])

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes in order (a small PDF is one chunk)."""
        template, at = _template(self.title, self.pages)
        hexed = self.mark.hex().upper().encode()
        yield template[:at] + hexed + template[at + len(hexed) :]


_FILLER_HEAD = (
    b"%%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
    b"2 0 obj\n<</Type/Pages/Count 0/Kids[]>>\nendobj\n"
    b"3 0 obj\n<</Length %010d>>stream\n"
)
_FILLER_PLACES = tuple((_FILLER_HEAD % 0).index(b"%d 0 obj" % number) for number in (1, 2, 3))
_FILLER_END = (
    b"\nendstream\nendobj\nxref\n0 4\n0000000000 65535 f \n"
    + b"".join(b"%010d 00000 n \n" % place for place in _FILLER_PLACES)
    + b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%010d\n%%%%EOF\n"
)


@dataclass(frozen=True, slots=True)
class FillerPdf:
    """
    An unsigned PDF without pages of any size, whose one stream is noise that depends on `seed`.

    One that is too small for that (less than 350 bytes) begins as a PDF does, and is none.
    """

    seed: int
    size: int

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes in order, made while they are sent."""
        noise = self.size - len(_FILLER_HEAD % 0) - len(_FILLER_END % 0)
        if noise < 0:
            yield (b"%PDF-1.7\n" + b"".join(Generated(self.seed, self.size).chunks()))[: self.size]
            return
        head = _FILLER_HEAD % noise
        yield head
        yield from Generated(self.seed, noise).chunks()
        yield _FILLER_END % (len(head) + noise + len(b"\nendstream\nendobj\n"))


@dataclass(frozen=True)
class SignedUpload:
    """A PDF that somebody uploaded, signed as it is fetched for the first time."""

    original: bytes

    @cached_property
    def _signed(self) -> bytes:
        return _sign(self.original)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._signed)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes in order."""
        view = memoryview(self._signed)
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]


def count_pages(data: bytes) -> int:
    """Number of pages of an uploaded PDF. Raises NotAPdf."""
    try:
        return int(IncrementalPdfFileWriter(io.BytesIO(data)).root["/Pages"]["/Count"])
    except (PdfError, KeyError, TypeError, ValueError) as exc:
        raise NotAPdf(str(exc)) from exc


def plain_pdf(title: str, pages: int) -> bytes:
    """A PDF of some pages that say what they are; written by hand, since a PDF library would be one more
    dependency."""
    first_page = 4
    kids = " ".join(f"{first_page + 2 * page} 0 R" for page in range(pages))
    bodies = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {pages}/Kids[{kids}]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for page in range(pages):
        text = f"BT /F1 20 Tf 72 770 Td ({title}, page {page + 1} of {pages}) Tj ET"
        resources = "/MediaBox[0 0 595 842]/Resources<</Font<</F1 3 0 R>>>>"
        bodies.append(f"<</Type/Page/Parent 2 0 R{resources}/Contents {first_page + 2 * page + 1} 0 R>>")
        bodies.append(f"<</Length {len(text)}>>stream\n{text}\nendstream")

    pdf = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
    places = []
    for number, body in enumerate(bodies, start=1):
        places.append(len(pdf))
        pdf += f"{number} 0 obj\n{body}\nendobj\n".encode()
    entries = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(bodies) + 1
    table = f"xref\n0 {size}\n0000000000 65535 f \n{entries}trailer<</Size {size}/Root 1 0 R>>\n"
    return pdf + f"{table}startxref\n{len(pdf)}\n%%EOF\n".encode()


def audit_trail_xml(envelope_id: str, events: Iterable[tuple[datetime, str, str]]) -> bytes:
    """The audit trail as XML: one element per event (time, type, e-mail address)."""
    lines = [
        f"  <event time={quoteattr(time.isoformat())} type={quoteattr(kind)} email={quoteattr(email)}/>"
        for time, kind, email in events
    ]
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<auditTrail envelope="{envelope_id}">'
    return "\n".join([head, *lines, "</auditTrail>\n"]).encode()


def authority_certificate() -> str:
    """The certificate of the authority that all signatures lead to, as PEM."""
    return _authority()[1].public_bytes(serialization.Encoding.PEM).decode()


@cache
def _template(title: str, pages: int) -> tuple[bytes, int]:
    """The signed PDF of this title, and where in it the mark stands."""
    signed = _sign(plain_pdf(title, pages))
    return signed, signed.index(_MARK.hex().upper().encode())


def _sign(pdf: bytes) -> bytes:
    def work() -> bytes:
        writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
        field = (
            f"Signature-{hashlib.sha256(pdf).hexdigest()[:8]}"  # a PDF that is signed already has other ones
        )
        how = signers.PdfSignatureMetadata(field_name=field, reason="Signed in the stand-in")
        signed: io.BytesIO = signers.sign_pdf(writer, how, signer=_signer())
        return signed.getvalue()

    # pyHanko runs its own event loop, which the thread of our loop does not allow.
    with ThreadPoolExecutor(max_workers=1) as elsewhere:
        return elsewhere.submit(work).result()


class _Mark(CMSAttributeProvider):
    async def get_attribute(self, dry_run: bool = False) -> cms.CMSAttribute:
        return cms.CMSAttribute(
            {"type": cms.CMSAttributeType(_MARK_TYPE), "values": [core.OctetString(_MARK)]}
        )


class _Marked(UnsignedAttributeProviderSpec):
    def unsigned_attr_providers(
        self, signature: bytes, signed_attrs: cms.CMSAttributes, digest_algorithm: str
    ) -> Iterable[CMSAttributeProvider]:
        yield _Mark()


@cache
def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _certificate("Stand-in Root CA", key.public_key(), key, is_authority=True)


@cache
def _signer() -> signers.SimpleSigner:
    authority_key, authority = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate("Stand-in Signer", key.public_key(), authority_key, is_authority=False)
    known = SimpleCertificateStore.from_certs([_asn1(authority)])
    signer = signers.SimpleSigner(
        signing_cert=_asn1(certificate),
        signing_key=keys.PrivateKeyInfo.load(
            key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        ),
        cert_registry=known,
    )
    signer.unsigned_attr_prov_spec = _Marked()
    return signer


def _certificate(
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    authority_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stand-in Root CA")])
    start = datetime.now(UTC) - timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=not is_authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(authority_key, hashes.SHA256())
    )


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))
