"""
Findings: what the check of one PDF's signatures came to, as the manifest has it.

Values only. Texts from certificates are untrusted: cut and without control characters before they get here.
"""

from enum import StrEnum

import msgspec

from counterfoil.untrusted.json_bounds import text_memory


class SignatureResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Any part of a finding: immutable, camelCase outside, nothing left out."""


class State(StrEnum):
    """
    Result for a file as a whole.

    ``Intact``: signed, nothing that was signed has changed, and nothing but validation data came after the
    last signature. ``Unreadable``: no readable PDF, bytes after its end mark (it may be cut), or its check
    did not end. ``NotChecked``: the file was not checked.
    """

    INTACT = "Intact"
    BROKEN = "Broken"
    UNSIGNED = "Unsigned"
    UNREADABLE = "Unreadable"
    NOT_CHECKED = "NotChecked"


class Coverage(StrEnum):
    """
    Part of the file that a signature covers: all, all up to a later save, or less than what was saved with
    it.
    """

    WHOLE_FILE = "WholeFile"
    WHOLE_REVISION = "WholeRevision"
    PARTIAL = "Partial"
    UNKNOWN = "Unknown"


class Kind(StrEnum):
    """Kind of an entry in the PDF: a person's or seal's signature, or a time stamp of the document."""

    SIGNATURE = "Signature"
    TIME_STAMP = "DocumentTimeStamp"


class TimeStamp(SignatureResult, frozen=True):
    """
    A time stamp within a signature: the time (RFC 3339), whose it is, and whether it fits the signature.

    ``trusted`` is whether its authority leads to a trust anchor, null when there were none.
    """

    time: str
    authority: str
    intact: bool
    trusted: bool | None = None


class Signature(SignatureResult, frozen=True):
    """
    One signature.

    ``signer`` and ``issuer`` are as in its certificate, whose SHA-256 is ``certificate``. ``trusted`` is
    whether that certificate led to a trust anchor when it signed, null when there were none; ``distrust``
    says why it did not. ``time`` (RFC 3339, empty for unknown) is what the signer's clock said, that of a
    document time stamp what its authority says.
    """

    field: str
    intact: bool
    coverage: Coverage
    kind: Kind = Kind.SIGNATURE
    signer: str = ""
    issuer: str = ""
    certificate: str = ""
    time: str = ""
    time_stamp: TimeStamp | None = None
    trusted: bool | None = None
    distrust: str = ""

    @property
    def is_distrusted(self) -> bool:
        """Whether its signer leads to no trust anchor."""
        return self.kind is Kind.SIGNATURE and self.trusted is False


class Signatures(SignatureResult, frozen=True):
    """
    Signatures in one file; ``detail`` says why it is not ``Intact``, in a sentence without a full stop.

    ``anchors`` is the SHA-256 of the trust anchors that counted (of the SHA-256s of their certificates, in
    the order of the certificates), null when there were none. ``leftOut`` is the number of signatures that
    ``state`` is about as well, and ``found`` does not have.
    """

    state: State
    detail: str = ""
    found: tuple[Signature, ...] = ()
    anchors: str | None = None
    left_out: int = 0

    @property
    def count(self) -> int:
        """Number of signatures and document time stamps."""
        return len(self.found) + self.left_out

    def within(self, memory: int) -> "Signatures":
        """
        Return it with the first findings whose texts take this memory (bytes), and the number of the others.

        The first signer who is not trusted is never left out: it decides.
        """
        kept: list[Signature] = []
        for each in self.found:
            memory -= text_memory(each)
            if memory < 0:
                break
            kept.append(each)
        if not any(each.is_distrusted for each in kept):
            kept += [each for each in self.found[len(kept) :] if each.is_distrusted][:1]
        left_out = self.count - len(kept)
        return msgspec.structs.replace(self, found=tuple(kept), left_out=left_out)

    @property
    def is_doubtful(self) -> bool:
        """Whether the file may not be what eSAW has, or was changed: its envelope is not deleted."""
        return self.state in (State.BROKEN, State.UNREADABLE)
