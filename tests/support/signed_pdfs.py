"""
Builders of signed PDFs, in the ways that signing systems make them and with the manipulations of an attacker.
"""

import base64
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache

from asn1crypto import keys  # type: ignore[import-untyped]  # asn1crypto ships no types
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import PdfFileWriter, copy_into_new_writer
from pyhanko.sign import signers
from pyhanko.sign.timestamps import DummyTimeStamper
from pyhanko_certvalidator.registry import SimpleCertificateStore

from counterfoil.signatures.anchors import Anchors
from sandbox.esaw.core.documents import plain_pdf

STAMPED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
NOW = datetime.now(UTC)


class Identity:
    """A certificate with its key, issued by another or self-signed."""

    def __init__(
        self, name: str, by: "Identity | None" = None, *, authority: bool = True, until: int = 5
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = by or self
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=10))
            .not_valid_after(NOW + timedelta(days=until))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(issuer.key, hashes.SHA256())
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def asn1(self) -> asn1_x509.Certificate:
        return asn1_x509.Certificate.load(self.der)


ROOT = Identity("Root")
BETWEEN = Identity("Between", ROOT)
ANNA = Identity("Anna", BETWEEN, authority=False)
EXPIRED = Identity("Expired", ROOT, authority=False, until=-5)
ALONE = Identity("Alone", authority=False)


def unsigned(title: str = "Contract") -> bytes:
    return plain_pdf(title, 2)


def signed(pdf: bytes = b"", *, name: str = "Anna", field: str = "First", stamped: bool = False) -> bytes:
    how = signers.PdfSignatureMetadata(field_name=field, md_algorithm="sha256")
    return _elsewhere(
        lambda: signers.sign_pdf(
            IncrementalPdfFileWriter(io.BytesIO(pdf or unsigned())),
            how,
            signer=_signer(name),
            timestamper=_authority() if stamped else None,
        ).getvalue()
    )


def signed_by(who: Identity, *between: Identity, pdf: bytes = b"", field: str = "First") -> bytes:
    """Sign with a certificate that somebody issued; those of the authorities ``between`` come with it."""
    how = signers.PdfSignatureMetadata(field_name=field, md_algorithm="sha256")
    signer = signers.SimpleSigner(
        signing_cert=who.asn1,
        signing_key=_private(who.key),
        cert_registry=SimpleCertificateStore.from_certs([each.asn1 for each in between]),
    )
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf or unsigned()))
    return _elsewhere(lambda: signers.sign_pdf(writer, how, signer=signer).getvalue())


def time_stamped(pdf: bytes) -> bytes:
    """Put a time stamp of the whole document after everything else (PAdES LTA)."""
    stamper = signers.PdfTimeStamper(_authority())
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    return _elsewhere(lambda: stamper.timestamp_pdf(writer, "sha256").getvalue())


def sample() -> tuple[bytes, bytes]:
    """Return new contents of `sample.pdf` and `sample-anchors.json` of `counterfoil/signatures/worker/`.

    Nobody keeps the keys."""
    first = signed_by(ANNA, BETWEEN, pdf=_with_streams(unsigned("Sample")))
    second = signed(first, name="Ben", field="Second", stamped=True)
    return time_stamped(second), Anchors((ROOT.der,)).encoded


def _with_streams(pdf: bytes) -> bytes:
    """Return the same document with its cross-references in a stream, as PDF 1.5 has them."""
    out = io.BytesIO()
    copy_into_new_writer(PdfFileReader(io.BytesIO(pdf))).write(out)
    return out.getvalue()


def edited(pdf: bytes) -> bytes:
    """Save another text over the first page, as an editor does: by an incremental update."""
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    content = writer.add_object(generic.StreamObject(stream_data=b"BT (You owe nothing.) Tj ET"))
    page = writer.root["/Pages"]["/Kids"][0]
    page["/Contents"] = content
    writer.update_container(page)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def with_one_byte_changed(pdf: bytes, of: bytes = b"page 1 of 2") -> bytes:
    at = pdf.index(of)
    return pdf[:at] + bytes([pdf[at] ^ 1]) + pdf[at + 1 :]


def message(
    content: bytes,
    *names: str,
    encoding: str = "DER",
    detached: bool = False,
    certificates: bool = True,
    attributes: bool = True,
) -> bytes:
    """Return a signed message (``.p7m``) with one signature of each name."""
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
    for each in map(Identity, names):
        builder = builder.add_signer(each.certificate, each.key, hashes.SHA256())
    options = [pkcs7.PKCS7Options.Binary]
    if detached:
        options.append(pkcs7.PKCS7Options.DetachedSignature)
    if not certificates:
        options.append(pkcs7.PKCS7Options.NoCerts)
    if not attributes:
        options.append(pkcs7.PKCS7Options.NoAttributes)
    if encoding == "PEM":
        return builder.sign(serialization.Encoding.PEM, options)
    signed_message = builder.sign(serialization.Encoding.DER, options)
    return base64.encodebytes(signed_message) if encoding == "base64" else signed_message


def encrypted(password: str) -> bytes:
    writer: PdfFileWriter = copy_into_new_writer(PdfFileReader(io.BytesIO(unsigned())))
    writer.encrypt("owner", password)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def _elsewhere(work: Callable[[], bytes]) -> bytes:
    # pyHanko runs its own event loop, which the thread of our loop does not allow.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


@cache
def _signer(name: str) -> signers.SimpleSigner:
    certificate, key = _identity(name, stamps=False)
    return signers.SimpleSigner(
        signing_cert=certificate, signing_key=key, cert_registry=SimpleCertificateStore()
    )


@cache
def _authority() -> DummyTimeStamper:
    certificate, key = _identity("Time Authority", stamps=True)
    return DummyTimeStamper(certificate, key, fixed_dt=STAMPED)


def _identity(name: str, *, stamps: bool) -> tuple[asn1_x509.Certificate, keys.PrivateKeyInfo]:
    # pyHanko's own authority for tests can do RSA only.
    key = rsa.generate_private_key(65537, 2048) if stamps else ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
    )
    if stamps:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usage, critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return (
        asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER)),
        _private(key),
    )


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> keys.PrivateKeyInfo:
    return keys.PrivateKeyInfo.load(
        key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
