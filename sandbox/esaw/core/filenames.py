"""
File names: the awkward ones that people and attackers give, and how a name is written into
Content-Disposition.
"""

import mimetypes
from typing import Final
from urllib.parse import quote

AWKWARD_NAMES: Final = (
    "../../etc/passwd.pdf",
    "..\\..\\windows\\system32\\drivers.pdf",
    "/etc/shadow.pdf",
    "..",
    "CON.pdf",
    "nul",
    "L" * 296 + ".pdf",  # 300 bytes
    "ä" * 148 + ".pdf",  # 300 bytes, 152 characters
    "Übertrag.pdf",  # NFC
    "U\u0308bertrag.pdf",  # NFD: looks the same
    "Vertrag 📄✍️.pdf",
    ".hidden.pdf",
    "trailing space.pdf ",
    "trailing dot.pdf.",
    "slash/inside.pdf",
    "back\\slash.pdf",
    "line\nbreak\rand\ttab\x00nul\x7f.pdf",
    "",
    "invoice\u202efdp.exe",  # reads as invoiceexe.pdf
    "double \"quotes\" and 'single'.pdf",
    "semi;colon=equals, comma.pdf",
    "percent%2e%2e%2f.pdf",
    "counterfoil.json",
    "counterfoil.sha256",
)
"""Each breaks some way of turning a name into a path, a header or a key; for two documents of one name, use
one twice."""


def content_disposition(name: str) -> str:
    """
    The header for a download of this name (RFC 6266): an ASCII stand-in for old clients and the true name by
    RFC 5987.

    A file without a name has none here either.
    """
    if not name:
        return "attachment"
    plain = "".join(char if " " <= char <= "~" else "_" for char in name)
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f"attachment; filename=\"{quoted}\"; filename*=UTF-8''{quote(name, safe='')}"


def content_type(name: str) -> str:
    """The media type that goes with a name's ending."""
    guessed, encoding = mimetypes.guess_type(name.replace("/", "_"))
    return guessed if guessed and not encoding else "application/octet-stream"
