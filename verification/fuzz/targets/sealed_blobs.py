"""Sealed tokens and cookies: any bytes, and valid ones of which something was changed."""

import base64
import tempfile
from pathlib import Path

from counterfoil.esaw.token import ApiToken
from counterfoil.sealing import SealBroken, Sealing, SealKeyUnknown, key_id_of
from tests.support.builders import AClock, a_sender
from verification.fuzz.target import Check, PropertyViolated, Target, expect

PURPOSE = "flow"


def _flipped(blob: bytes, changes: bytes) -> bytes:
    """Change bits of a blob: each pair of bytes is a place and what is changed there."""
    changed = bytearray(blob)
    for at, bits in zip(changes[::2], changes[1::2], strict=False):
        changed[at % len(changed)] ^= bits
    return bytes(changed)


def _prepare() -> Check:
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-fuzz-keys-"))
    for name in ("k1", "k2"):
        (folder / name).write_bytes(base64.b64encode(name.encode() * 16))
    sealing, sender = Sealing(folder, AClock()), a_sender()
    sealed = sealing.seal(ApiToken.parse("a-token", "https://esaw.example.com"), "default", sender).data
    cookie = sealing.seal_for(PURPOSE, b"{}")

    def check(data: bytes) -> None:
        changes = data[1:]
        match data[:1]:
            case b"f":
                blob = _flipped(sealed, changes)
                is_same = blob == sealed
            case b"c":
                blob, is_same = _flipped(cookie, changes), False
                if blob == cookie:
                    expect(sealing.open_for(PURPOSE, blob) == b"{}", "an unchanged cookie opens")
                    return
                opened = sealing.open_for(PURPOSE, blob)
                raise PropertyViolated(f"a changed cookie opened: {opened!r}")
            case b"k":
                expect(key_id_of(changes).isascii(), "the id of a key is ASCII")
                return
            case _:
                blob, is_same = changes, False
        token = sealing.open(blob, "default", sender)
        expect(is_same and token.reveal() == "a-token", "only the unchanged token opens")

    return check


TARGET = Target(
    subject="sealed tokens and cookies",
    documented=(SealBroken, SealKeyUnknown),
    seeds=(
        b"f",
        b"f\x00\x01",
        b"f\x20\x80\x20\x80",
        b"c",
        b"c\x05\x02",
        b"k\x02\x02k1" + bytes(28),
        b"o\x02\x02k2" + bytes(28),
        b"o\x02\xff" + bytes(300),
    ),
    words=(*(b"\x02 \x02k1 \x02k2").split(b" "),),
    prepare=_prepare,
    max_length=512,
)
