"""Examine the signatures of PDFs, each in its own process, until the input ends."""

import io
import sys
from pathlib import Path
from typing import BinaryIO

import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - else each process imports it
import msgspec

from counterfoil.signatures import hex_strings
from counterfoil.signatures.check import BLOCK, check_signatures
from counterfoil.signatures.trust import load_trust_store
from counterfoil.worker_processes.worker import Note, serve

MAX_MEMORY_BYTES = 248 * 1024 * 1024
"""Bytes of address space: a file of 64 MiB, what is made of it, and 70 MiB for Python and its libraries."""

CPU_SECONDS = 10
"""For one file; a signed contract takes some milliseconds."""

SAMPLE = Path(__file__).with_name("sample.pdf")
"""A PDF that `tests/support/signed_pdfs.py` made: two signatures, of which the second has a time stamp, and a
time stamp of the whole document. The first signer leads to the certificate in ``SAMPLE_ANCHORS``."""

SAMPLE_ANCHORS = Path(__file__).with_name("sample-anchors.json")


def main() -> int:
    """Examine what comes in until the input ends."""
    hex_strings.install()
    sample = SAMPLE.read_bytes()
    # Trust is a second way through the libraries.
    samples = [(SAMPLE_ANCHORS.read_bytes(), sample), (b"", sample)]
    serve(answer_request, memory_bytes=MAX_MEMORY_BYTES, cpu_seconds=CPU_SECONDS, samples=samples)
    return 0


def answer_request(anchors: bytes, size: int, requests: BinaryIO, _note: Note) -> bytes:
    """Return the ``Signatures`` of a PDF of ``size`` bytes, as JSON."""
    trust = load_trust_store(anchors)
    return msgspec.json.encode(check_signatures(_read_pdf(size, requests), trust))


def _read_pdf(size: int, requests: BinaryIO) -> BinaryIO:
    """Read a file of that size, or up to the end of the input, without ever holding it twice."""
    pdf = io.BytesIO()
    pdf.truncate(size)
    while missing := size - pdf.tell():
        chunk = requests.read(min(missing, BLOCK))
        if not chunk:
            break
        pdf.write(chunk)
    pdf.seek(0)
    return pdf


if __name__ == "__main__":
    sys.exit(main())
