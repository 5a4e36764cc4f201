"""Results for signatures of PDFs, from any producer and after any change."""

import io
import itertools
import random
import re

import pytest

from counterfoil.signatures.check import MAX_SIGNATURES, check_signatures
from counterfoil.signatures.results import Coverage, Kind, Signatures, State
from counterfoil.signatures.trust import TrustStore
from tests.support.signed_pdfs import (
    ROOT,
    edited,
    encrypted,
    message,
    signed,
    time_stamped,
    unsigned,
    with_one_byte_changed,
)


def looked_at(pdf: bytes) -> Signatures:
    return check_signatures(io.BytesIO(pdf))


def test_a_signed_pdf_is_intact_and_the_report_says_who_signed_when_and_how_much() -> None:
    found = looked_at(signed(name="Anna Meier"))

    assert (found.state, found.detail) == (State.INTACT, "")
    (signature,) = found.found
    assert (signature.field, signature.kind, signature.intact) == ("First", Kind.SIGNATURE, True)
    assert signature.coverage is Coverage.WHOLE_FILE
    assert (signature.signer, signature.issuer) == ("Common Name: Anna Meier", "Common Name: Anna Meier")
    assert len(signature.certificate) == 64
    assert signature.time.endswith("Z")
    assert signature.time_stamp is None


def test_a_time_stamp_is_reported_with_its_time_and_authority() -> None:
    found = looked_at(signed(stamped=True))

    stamp = found.found[0].time_stamp
    assert found.state is State.INTACT
    assert stamp is not None
    assert (stamp.time, stamp.authority, stamp.intact) == (
        "2026-03-01T09:30:00Z",
        "Common Name: Time Authority",
        True,
    )


def test_of_two_signatures_the_last_one_covers_the_whole_file() -> None:
    found = looked_at(signed(signed(), name="Bruno", field="Second"))

    assert found.state is State.INTACT
    assert [(each.field, each.coverage) for each in found.found] == [
        ("First", Coverage.WHOLE_REVISION),
        ("Second", Coverage.WHOLE_FILE),
    ]


def test_a_document_time_stamp_after_the_last_signature_leaves_it_intact() -> None:
    found = looked_at(time_stamped(signed()))

    assert found.state is State.INTACT
    assert [(each.kind, each.time) for each in found.found][-1] == (Kind.TIME_STAMP, "2026-03-01T09:30:00Z")


def test_a_time_stamp_alone_is_no_signature() -> None:
    found = looked_at(time_stamped(unsigned()))

    assert (found.state, len(found.found)) == (State.UNSIGNED, 1)


def test_a_pdf_without_signatures_is_unsigned() -> None:
    assert looked_at(unsigned()) == Signatures(state=State.UNSIGNED, detail="it has no signature")


def test_one_changed_byte_breaks_the_signature() -> None:
    found = looked_at(with_one_byte_changed(signed()))

    assert found.state is State.BROKEN
    assert found.detail == "the signature 'First' does not fit what was signed"


def test_one_changed_byte_of_a_time_stamped_document_breaks_both() -> None:
    found = looked_at(with_one_byte_changed(time_stamped(signed())))

    assert [each.intact for each in found.found] == [False, False]


def test_a_change_saved_after_the_last_signature_is_found() -> None:
    found = looked_at(edited(signed()))

    assert found.state is State.BROKEN
    assert found.detail == "the file was changed after the last signature"
    assert found.found[0].intact, "what was signed is as it was"


def test_a_change_between_two_signatures_is_what_the_second_one_signed() -> None:
    assert looked_at(signed(edited(signed()), field="Second")).state is State.INTACT


SIGNED_TWICE = signed(signed(), name="Bruno", field="Second")


@pytest.mark.parametrize(
    "pdf",
    [
        signed(),
        SIGNED_TWICE,
        signed(stamped=True),
        time_stamped(unsigned()),
        time_stamped(edited(unsigned())),
    ],
    ids=["signed", "signed twice", "time stamp", "document time stamp", "edited, document time stamp"],
)
def test_no_cut_of_a_signed_pdf_passes_for_a_whole_one(pdf: bytes) -> None:
    saves = [found.end() for found in re.finditer(rb"%%EOF\s*", pdf)]
    near_an_end = {end + offset for end in saves for offset in range(-40, 1100, 7)}
    near_an_end |= {end + offset for end in saves for offset in (-6, -5, -2, 1, 2)}
    cuts = {at for at in near_an_end if 0 < at < len(pdf) - 1} | set(range(1, len(pdf) - 1, 97))
    # What is left by a cut between two saves is a whole file, byte for byte.
    whole = {end - blanks for end in saves for blanks in (0, 1)}

    passed = {at for at in cuts - whole if not looked_at(pdf[:at]).is_doubtful}

    assert passed == set()


def test_what_is_left_by_a_cut_between_two_saves_is_the_file_of_the_earlier_save() -> None:
    assert SIGNED_TWICE.startswith(unsigned())
    assert looked_at(SIGNED_TWICE[: len(unsigned())]).state is State.UNSIGNED


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n", b" \t\n\n", b"\0" * 900, b"%%EOF\r\n"])
def test_an_unsigned_pdf_may_be_followed_by_white_space_and_nul(tail: bytes) -> None:
    assert looked_at(unsigned().rstrip() + tail).state is State.UNSIGNED


@pytest.mark.parametrize("tail", [b"5 0 obj", b"\n7", b"xref", b"<html>", b"\x1a", b"% a comment"])
def test_an_unsigned_pdf_with_other_bytes_after_its_end_is_in_doubt(tail: bytes) -> None:
    found = looked_at(unsigned() + tail)

    assert (found.state, found.detail) == (
        State.UNREADABLE,
        "bytes follow its last end mark (%%EOF), as in a file that was cut",
    )


@pytest.mark.parametrize("mark", [b"", b"%%EO", b"%EOF"])
def test_a_pdf_without_its_end_mark_is_in_doubt(mark: bytes) -> None:
    assert looked_at(unsigned().rstrip().removesuffix(b"%%EOF") + mark).state is State.UNREADABLE


def test_a_document_time_stamp_that_was_cut_leaves_no_intact_file() -> None:
    whole = time_stamped(signed())
    assert looked_at(whole[: len(signed()) + 300]).state is State.BROKEN


@pytest.mark.parametrize("tail", [b"\n", b"%%EOF\n", b"\0" * 5000])
def test_bytes_after_the_end_are_found(tail: bytes) -> None:
    assert looked_at(signed() + tail).state in (State.BROKEN, State.UNREADABLE)


def test_a_signature_that_leaves_out_more_than_itself_is_found() -> None:
    pdf = signed()
    at = pdf.index(b"/ByteRange")
    numbers = pdf[pdf.index(b"[", at) + 1 : pdf.index(b"]", at)]
    first, length, second, rest = numbers.split()
    narrower = b"%s %s %d %d" % (first, length, int(second) + 10, int(rest) - 10)

    found = looked_at(pdf.replace(numbers, narrower.ljust(len(numbers))))

    assert found.state is State.BROKEN


def test_a_signature_of_which_nothing_can_be_read_is_broken_not_unseen() -> None:
    pdf = signed()
    at = pdf.index(b"/Contents <") + len(b"/Contents <")

    found = looked_at(pdf[:at] + b"00" * 20 + pdf[at + 40 :])

    assert (found.state, found.detail) == (State.BROKEN, "the signature 'First' can't be read")


def test_a_pdf_that_needs_a_password_is_not_guessed_about() -> None:
    assert looked_at(encrypted("secret")) == Signatures(state=State.UNREADABLE, detail="it needs a password")


def test_a_pdf_that_everybody_may_read_but_not_print_is_read() -> None:
    assert looked_at(encrypted("")).state is State.UNSIGNED


@pytest.mark.parametrize("pdf", [b"", b"hello", b"%PDF-1.7", b"\0" * 100, unsigned()[:300]])
def test_what_is_no_pdf_is_unreadable(pdf: bytes) -> None:
    assert looked_at(pdf) == Signatures(state=State.UNREADABLE, detail="it can't be read as a PDF")


def test_names_in_it_are_cut_and_have_no_control_characters() -> None:
    found = looked_at(signed(name="Anna\n\x1b[31m" + "a" * 50, field="F" * 400))

    assert found.found[0].signer == "Common Name: Anna [31m" + "a" * 50
    assert len(found.found[0].field) == 256


def test_a_pdf_with_hundreds_of_signatures_is_not_gone_through() -> None:
    pdf = signed()
    at = pdf.rindex(b"/Fields")
    fields = pdf[pdf.index(b"[", at) + 1 : pdf.index(b"]", at)]
    many = pdf.replace(fields, fields * (MAX_SIGNATURES + 1))

    assert looked_at(many).state in (State.UNREADABLE, State.BROKEN)


def test_no_garbled_pdf_makes_it_raise() -> None:
    pdf = signed(stamped=True)
    chance = random.Random(7)

    for _ in range(60):
        garbled = bytearray(pdf)
        for at in itertools.islice(iter(lambda: chance.randrange(len(pdf)), None), 30):
            garbled[at] = chance.randrange(256)
        assert looked_at(bytes(garbled)).state is not State.INTACT


# -- Signed messages (activity SignAsP7M) --------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["DER", "PEM", "base64"])
def test_a_signed_message_is_intact_and_names_its_signers(encoding: str) -> None:
    found = looked_at(message(unsigned(), "Anna Meier", "Bruno", encoding=encoding))

    assert (found.state, found.detail) == (State.INTACT, "")
    assert sorted(each.signer for each in found.found) == ["Common Name: Anna Meier", "Common Name: Bruno"]
    assert all(each.intact and each.coverage is Coverage.WHOLE_FILE for each in found.found)
    assert all(each.time.endswith("Z") and len(each.certificate) == 64 for each in found.found)


def test_one_changed_byte_breaks_the_signature_of_a_message() -> None:
    found = looked_at(with_one_byte_changed(message(unsigned(), "Anna")))

    assert found.state is State.BROKEN
    assert found.detail == "the signature 'Signer 1' does not fit what was signed"


def test_a_message_without_the_signed_document_is_not_checked() -> None:
    found = looked_at(message(unsigned(), "Anna", detached=True))

    assert found.state is State.NOT_CHECKED
    assert found.detail == "it does not contain the document that was signed"


@pytest.mark.parametrize(
    "cut", [slice(None, -10), slice(None, 100), slice(2)], ids=["end", "middle", "start"]
)
@pytest.mark.parametrize("encoding", ["DER", "PEM", "base64"])
def test_a_message_that_is_cut_is_unreadable(cut: slice, encoding: str) -> None:
    cut_message = message(unsigned(), "Anna", encoding=encoding).strip()[cut]
    found = looked_at(cut_message)
    assert found.state is State.UNREADABLE
    assert found.detail.startswith("it can't be read as a ")


def test_a_message_with_bytes_after_its_end_is_unreadable() -> None:
    found = looked_at(message(unsigned(), "Anna") + b"more")
    assert found == Signatures(state=State.UNREADABLE, detail="it can't be read as a signed message")


def test_a_message_whose_signer_is_not_named_is_not_checked() -> None:
    found = looked_at(message(unsigned(), "Anna", certificates=False))

    assert found.state is State.NOT_CHECKED
    assert found.detail == "a signature of the message can't be examined"


def test_a_message_without_signed_attributes_has_no_time() -> None:
    found = looked_at(message(unsigned(), "Anna", attributes=False))

    assert (found.state, found.found[0].time) == (State.INTACT, "")


def test_the_signer_of_a_message_is_trusted_only_by_a_trust_anchor() -> None:
    signed_message = message(unsigned(), "Anna")
    (signature,) = check_signatures(io.BytesIO(signed_message), TrustStore([ROOT.der])).found
    assert (signature.intact, signature.trusted) == (True, False)
