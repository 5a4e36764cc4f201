"""
The examination of the signatures of one PDF or one signed message. It never looks anything up in the network.

Without trust anchors every certificate is accepted, from any issuer.
"""

import hashlib
import io
import re
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
from asn1crypto import cms, x509  # type: ignore[import-untyped]  # asn1crypto ships no types
from pyhanko.pdf_utils.crypt import AuthStatus
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.diff_analysis import DEFAULT_DIFF_POLICY, DiffResult, ModificationLevel
from pyhanko.sign.fields import enumerate_sig_fields
from pyhanko.sign.general import extract_certificate_info
from pyhanko.sign.validation import generic_cms
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import SignatureCoverageLevel

from counterfoil.signatures.messages import (
    MESSAGE_STARTS,
    MessageSignature,
    content_of,
    find_signed_data,
    signatures_of,
)
from counterfoil.signatures.results import Coverage, Kind, Signature, Signatures, State, TimeStamp
from counterfoil.signatures.trust import SIGNING_USAGE, TIME_STAMPING_USAGE, TrustStore

BLOCK = 256 * 1024

MAX_SIGNATURES = 200
"""More are counted as one fault: they would take long, and no signing process has that many."""

MAX_TEXT_LENGTH = 256
"""Characters of a name out of a PDF or a certificate."""

_END_MARK = b"%%EOF"
_BLANKS = b"\0\t\n\f\r "
"""White space of a PDF. Many producers and transports append some, also NUL."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_COVERAGE = {
    SignatureCoverageLevel.ENTIRE_FILE: Coverage.WHOLE_FILE,
    SignatureCoverageLevel.ENTIRE_REVISION: Coverage.WHOLE_REVISION,
}


def check_signatures(pdf: BinaryIO, trust: TrustStore | None = None) -> Signatures:
    """Look at all signatures of a PDF or a signed message. Raises nothing: what can't be read is
    ``Unreadable`` or ``Broken``."""
    if (message := _find_message(pdf)) is not None:
        return _check_message(message, trust)
    try:
        reader = PdfFileReader(pdf, strict=False)
        if reader.encrypted and reader.decrypt(b"").status is AuthStatus.FAILED:
            return Signatures(state=State.UNREADABLE, detail="it needs a password")
        fields = [(str(name), field) for name, _, field in enumerate_sig_fields(reader, filled_status=True)]
    except Exception:
        # An untrusted file can make a parser raise any error: RecursionError, MemoryError, struct.error, ...
        kind = "signed message" if _starts_as_message(pdf) else "PDF"
        return Signatures(state=State.UNREADABLE, detail=f"it can't be read as a {kind}")
    if len(fields) > MAX_SIGNATURES:
        return Signatures(state=State.UNREADABLE, detail=f"it has more than {MAX_SIGNATURES} signatures")
    judge = None if trust is None else _SignatureValidator(trust, _saved_certificates(reader))
    return _overall_result(reader, [_FieldCheck(reader, name, field, judge) for name, field in fields])


def _find_message(file: BinaryIO) -> cms.SignedData | None:
    if not _starts_as_message(file):
        return None
    message = find_signed_data(file.read())
    file.seek(0)
    return message


def _starts_as_message(file: BinaryIO) -> bool:
    file.seek(0)
    start = file.read(max(map(len, MESSAGE_STARTS)))
    file.seek(0)
    return start.startswith(MESSAGE_STARTS)


def _check_message(message: cms.SignedData, trust: TrustStore | None) -> Signatures:
    if (content := content_of(message)) is None:
        return Signatures(state=State.NOT_CHECKED, detail="it does not contain the document that was signed")
    if len(message["signer_infos"]) > MAX_SIGNATURES:
        return Signatures(state=State.UNREADABLE, detail=f"it has more than {MAX_SIGNATURES} signatures")
    judge = None if trust is None else _SignatureValidator(trust, [])
    try:
        found = tuple(
            _read_message_signature(each, f"Signer {number}", judge)
            for number, each in enumerate(signatures_of(message, content), start=1)
        )
    except Exception:
        # An unknown algorithm, for example. The message was read to its end, so it is not cut.
        return Signatures(state=State.NOT_CHECKED, detail="a signature of the message can't be examined")
    if fault := next(filter(None, map(_fault, found)), None):
        return Signatures(state=State.BROKEN, detail=fault, found=found)
    if not found:
        return Signatures(state=State.UNSIGNED, detail="it has no signature")
    return Signatures(state=State.INTACT, found=found)


def _read_message_signature(
    signature: MessageSignature, name: str, judge: "_SignatureValidator | None"
) -> Signature:
    certificate = _certificate(signature.signed_data)
    is_valid = generic_cms.validate_sig_integrity(
        signature.signer_info, certificate, signature.content_type, signature.digest()
    )
    finding = Signature(
        field=name,
        intact=all(is_valid),
        coverage=Coverage.WHOLE_FILE,
        signer=_clean_text(certificate.subject.human_friendly),
        issuer=_clean_text(certificate.issuer.human_friendly),
        certificate=certificate.sha256.hex(),
        time=_format_time(signature.self_reported_timestamp),
        time_stamp=_time_stamp(signature),
    )
    return finding if judge is None else judge.with_trust(finding, signature)


class _FieldCheck:
    """One signature being looked at: its finding, and where it stands among the others."""

    def __init__(
        self, reader: PdfFileReader, name: str, field: Any, judge: "_SignatureValidator | None"
    ) -> None:
        self.embedded: EmbeddedPdfSignature | None = None
        try:
            self.embedded = EmbeddedPdfSignature(reader, field, name)
            finding = _read_signature(self.embedded, _clean_text(name))
            self.result = finding if judge is None else judge.with_trust(finding, self.embedded)
        except Exception:
            # As above; that it can't be read is the finding.
            self.result = Signature(
                field=_clean_text(name),
                intact=False,
                coverage=Coverage.UNKNOWN,
                trusted=None if judge is None else False,
            )

    @property
    def order(self) -> int:
        """In which save of the file it was made; one that can't be read comes first."""
        return -1 if self.embedded is None else int(self.embedded.signed_revision)


class _SignatureValidator:
    """Says of signatures whether their signers are trusted."""

    def __init__(self, trust: TrustStore, saved: list[x509.Certificate]) -> None:
        self._trust = trust
        self._saved = saved

    def with_trust(
        self, signature: Signature, embedded: EmbeddedPdfSignature | MessageSignature
    ) -> Signature:
        """Return a finding with the result for its signer, or for the authority of a document time stamp."""
        if signature.kind is Kind.TIME_STAMP:
            distrust = self._fault(embedded.signed_data, _stamped(embedded.signed_data), TIME_STAMPING_USAGE)
            return msgspec.structs.replace(signature, trusted=not distrust, distrust=distrust)
        stamp, time = signature.time_stamp, embedded.self_reported_timestamp
        token = _token(embedded)
        if stamp is not None and token is not None:
            stamped = _stamped(token)
            stamp = msgspec.structs.replace(
                stamp, trusted=stamp.intact and not self._fault(token, stamped, TIME_STAMPING_USAGE)
            )
            # The time of an authority that nobody trusts is worth no more than that of the signer's own
            # clock.
            time = stamped if stamp.trusted else time
        distrust = "nobody says when it was made"
        if time is not None:
            distrust = self._fault(embedded.signed_data, _with_zone(time), SIGNING_USAGE)
        return msgspec.structs.replace(signature, time_stamp=stamp, trusted=not distrust, distrust=distrust)

    def _fault(self, signed: cms.SignedData, at: datetime, usage: KeyUsageConstraints) -> str:
        info = extract_certificate_info(signed)
        return self._trust.fault(info.signer_cert, [*info.other_certs, *self._saved], at, usage)


def _saved_certificates(reader: PdfFileReader) -> list[x509.Certificate]:
    """Return the certificates that were saved for validation in addition to those in the signatures (PAdES,
    DSS)."""
    try:
        return list(DocumentSecurityStore.read_dss(reader).load_certs())
    except Exception:
        # There are none, or what is there can't be read, which is as good.
        return []


def _overall_result(reader: PdfFileReader, looks: list[_FieldCheck]) -> Signatures:
    looks.sort(key=lambda look: look.order)
    found = tuple(look.result for look in looks)
    if fault := next(filter(None, map(_fault, found)), None):
        return Signatures(state=State.BROKEN, detail=fault, found=found)
    is_signed = any(each.kind is Kind.SIGNATURE for each in found)
    if not looks or looks[-1].result.coverage is not Coverage.WHOLE_FILE:
        if is_signed and _changed_since(reader, looks[-1]):
            detail = "the file was changed after the last signature"
            return Signatures(state=State.BROKEN, detail=detail, found=found)
        # Readers look for an end mark before junk, and so read a file that was cut as its earlier save.
        if not _ends_with_mark(reader.stream):
            detail = "bytes follow its last end mark (%%EOF), as in a file that was cut"
            return Signatures(state=State.UNREADABLE, detail=detail, found=found)
    if not is_signed:
        return Signatures(state=State.UNSIGNED, detail="it has no signature", found=found)
    return Signatures(state=State.INTACT, found=found)


def _ends_with_mark(pdf: BinaryIO) -> bool:
    """Whether a PDF ends with its end mark, apart from white space."""
    end = pdf.seek(0, io.SEEK_END)
    while end:
        start = max(end - BLOCK, 0)
        pdf.seek(start)
        if text := pdf.read(end - start).rstrip(_BLANKS):
            pdf.seek(max(start + len(text) - len(_END_MARK), 0))
            return pdf.read(len(_END_MARK)) == _END_MARK
        end = start
    return False


def _fault(signature: Signature) -> str | None:
    called = f"the signature {signature.field!r}"
    if signature.coverage is Coverage.UNKNOWN:
        return f"{called} can't be read"
    if not signature.intact:
        return f"{called} does not fit what was signed"
    if signature.coverage is Coverage.PARTIAL:
        return f"{called} does not cover all that was saved with it"
    if signature.time_stamp is not None and not signature.time_stamp.intact:
        return f"the time stamp of {called} does not fit it"
    return None


def _changed_since(reader: PdfFileReader, look: _FieldCheck) -> bool:
    """Whether what came after the last signature is more than validation data that was saved (PAdES LTA)."""
    embedded = look.embedded
    if embedded is None or embedded.signed_revision == reader.xrefs.total_revisions - 1:
        return True
    try:
        changes = DEFAULT_DIFF_POLICY.review_file(
            reader,
            embedded.signed_revision,
            field_mdp_spec=embedded.fieldmdp,
            doc_mdp=embedded.docmdp_level,
        )
    except Exception:
        return True
    if not isinstance(changes, DiffResult):
        return True
    return changes.modification_level.value > ModificationLevel.LTA_UPDATES.value


def _read_signature(embedded: EmbeddedPdfSignature, name: str) -> Signature:
    stamp = str(embedded.sig_object_type) == "/DocTimeStamp"
    certificate = _certificate(embedded.signed_data)
    return Signature(
        field=name,
        kind=Kind.TIME_STAMP if stamp else Kind.SIGNATURE,
        intact=_time_stamp_is_valid(embedded) if stamp else _signature_is_valid(embedded),
        coverage=_coverage(embedded),
        signer=_clean_text(certificate.subject.human_friendly),
        issuer=_clean_text(certificate.issuer.human_friendly),
        certificate=certificate.sha256.hex(),
        time=_format_time(_stamped(embedded.signed_data) if stamp else embedded.self_reported_timestamp),
        time_stamp=None if stamp else _time_stamp(embedded),
    )


def _signature_is_valid(embedded: EmbeddedPdfSignature) -> bool:
    digest = embedded.compute_digest()
    if embedded.signed_data["encap_content_info"]["content_type"].native != "data":
        # adbe.pkcs7.sha1, which PDF 2.0 took out: it signs a SHA-1 of the file, and that proves little.
        return False
    intact, valid = generic_cms.validate_sig_integrity(
        embedded.signer_info, _certificate(embedded.signed_data), "data", digest
    )
    return intact and valid


def _time_stamp_is_valid(embedded: EmbeddedPdfSignature) -> bool:
    info = embedded.signed_data["encap_content_info"]["content"].parsed
    imprint = info["message_imprint"]["hashed_message"].native
    return bool(imprint == embedded.compute_digest()) and _token_is_valid(embedded.signed_data)


def _token_is_valid(token: cms.SignedData) -> bool:
    """Whether the authority's signature fits its time stamp token. (RFC 3161)"""
    (signer,) = token["signer_infos"]
    certificate = _certificate(token)
    hashing = hashlib.new(signer["digest_algorithm"]["algorithm"].native)
    hashing.update(bytes(token["encap_content_info"]["content"]))
    return all(generic_cms.validate_sig_integrity(signer, certificate, "tst_info", hashing.digest()))


def _time_stamp(embedded: EmbeddedPdfSignature | MessageSignature) -> TimeStamp | None:
    """The first time stamp of a signature, which is about the signature's own bytes."""
    token = _token(embedded)
    if token is None:
        return None
    imprint = token["encap_content_info"]["content"].parsed["message_imprint"]
    hashing = hashlib.new(imprint["hash_algorithm"]["algorithm"].native)
    hashing.update(embedded.signer_info["signature"].native)
    fits = bool(imprint["hashed_message"].native == hashing.digest())
    authority = _certificate(token)
    return TimeStamp(
        time=_format_time(_stamped(token)),
        authority=_clean_text(authority.subject.human_friendly),
        intact=fits and _token_is_valid(token),
    )


def _token(embedded: EmbeddedPdfSignature | MessageSignature) -> cms.SignedData | None:
    return next(generic_cms.extract_tst_data_iter(embedded.signer_info, signed=False), None)


def _certificate(signed: cms.SignedData) -> x509.Certificate:
    """Return the signer's certificate. That the signature names this very one is checked along with the
    signature."""
    return extract_certificate_info(signed).signer_cert


def _stamped(token: cms.SignedData) -> datetime:
    time: datetime = token["encap_content_info"]["content"].parsed["gen_time"].native
    return _with_zone(time)


def _coverage(embedded: EmbeddedPdfSignature) -> Coverage:
    gap = len(embedded.pkcs7_content) * 2 + 2
    if len(embedded.byte_range) != 4 or embedded.byte_range[2] != embedded.byte_range[1] + gap:
        # What is left out must be the signature itself, and nothing else.
        return Coverage.PARTIAL
    return _COVERAGE.get(embedded.evaluate_signature_coverage(), Coverage.PARTIAL)


def _format_time(time: datetime | None) -> str:
    if time is None:
        return ""
    return _with_zone(time).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _with_zone(time: datetime) -> datetime:
    return time.replace(tzinfo=time.tzinfo or UTC)


def _clean_text(text: str) -> str:
    return _CONTROL_CHARACTERS.sub(" ", text).strip()[:MAX_TEXT_LENGTH]
