"""
Random responses of honest and dishonest servers, against the rules of RFC 9112 for the end of a message.

Each case is made from its number alone: the same cases run each time.
"""

import asyncio
import random
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from counterfoil.untrusted.addresses import Addresses
from counterfoil.untrusted.http_transport import has_trailing_bytes, new_client
from tests.support.servers.scripted_esaw import server_tls
from tests.support.servers.threaded_server import threaded_server

CASES = 400
AT_ONCE = 8
SILENCE_SECONDS = 30
SIZES = [0, 1, 5, 1000, 70_000, 200_000, 300_000, 450_000, 700_000]
SMALL = 2000
"""Bytes of a body that may come in parts of one byte."""


MORE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
"""Bytes that may follow a response, all or the last ones."""

MISSING = 3
"""Bytes between a wrong length and the right one."""


class Framing(StrEnum):
    """The framing of a body."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    NO_BODY = "no body"


class End(StrEnum):
    """The behaviour of the server after its bytes."""

    KEEP = "keep"
    CLOSE = "close"
    HALF_CLOSE = "half close"
    """Without the end of TLS."""
    RESET = "reset"


class Fault(StrEnum):
    """A change of a response by a dishonest server, or by a broken connection."""

    NONE = "none"
    CUT = "cut"
    MORE = "more"
    LONG_LENGTH = "long length"
    SHORT_LENGTH = "short length"
    TWO_LENGTHS = "two lengths"
    TWO_FRAMINGS = "two framings"
    OTHER_CODING = "other coding"
    NO_LAST_CHUNK = "no last chunk"
    NO_CHUNK_SIZE = "no chunk size"
    LONG_CHUNK = "long chunk"


class Outcome(StrEnum):
    """The report of a client: the whole body, an error, or bytes that follow the body."""

    BODY = "body"
    ERROR = "error"
    MORE = "more"


FAULTS = {
    Framing.LENGTH: [Fault.CUT, Fault.MORE, Fault.LONG_LENGTH, Fault.SHORT_LENGTH, Fault.TWO_LENGTHS],
    Framing.CHUNKED: [
        Fault.CUT,
        Fault.MORE,
        Fault.TWO_FRAMINGS,
        Fault.OTHER_CODING,
        Fault.NO_LAST_CHUNK,
        Fault.NO_CHUNK_SIZE,
        Fault.LONG_CHUNK,
    ],
    Framing.CLOSE: [Fault.CUT],
    Framing.NO_BODY: [Fault.MORE],
}


@dataclass(frozen=True)
class Case:
    """A response; ``body`` is what it declares."""

    number: int
    is_tls: bool
    framing: Framing
    fault: Fault
    end: End
    body: bytes
    pieces: list[bytes]
    pauses: list[float]
    """Seconds of the reader after each part of the body."""

    @property
    def is_announced(self) -> bool:
        """Whether the client knows whether the connection ends."""
        is_kept = self.end is End.KEEP and self.fault is Fault.NONE
        return is_kept or b"Connection: close" in b"".join(self.pieces)

    @property
    def allowed(self) -> set[Outcome]:
        """The outcomes that RFC 9112 allows, 6.3, 8 and 9.8."""
        if self.fault in (Fault.MORE, Fault.SHORT_LENGTH):
            return {Outcome.ERROR, Outcome.MORE}
        if self.fault is not Fault.NONE:
            return {Outcome.ERROR}
        if self.framing is Framing.CLOSE and (self.end is not End.CLOSE):
            is_plain_end = self.end is End.HALF_CLOSE and not self.is_tls
            return {Outcome.BODY if is_plain_end else Outcome.ERROR}
        # A reset discards what is not read yet.
        return {Outcome.BODY, Outcome.ERROR} if self.end is End.RESET else {Outcome.BODY}

    def __str__(self) -> str:
        tls = "TLS" if self.is_tls else "plain"
        return f"{self.number}: {tls}, {self.framing}, {self.fault}, {self.end}, {len(self.body)} bytes"


def a_case(number: int) -> Case:
    """Make a case; half of them are without a fault."""
    choice = random.Random(number)
    framing = choice.choice([*Framing, Framing.CHUNKED])
    fault = choice.choice([Fault.NONE] * len(FAULTS[framing]) + FAULTS[framing])
    ends = list(End)
    if fault not in (Fault.NONE, Fault.MORE) or framing is Framing.CLOSE:
        # Else it would be up to the timeout.
        ends.remove(End.KEEP)
    if fault is Fault.CUT and framing is Framing.CLOSE:
        ends = [End.RESET]
    end = choice.choice(ends)
    body = b"" if framing is Framing.NO_BODY else choice.randbytes(choice.choice(SIZES))
    if fault not in (Fault.NONE, Fault.CUT, Fault.MORE):
        body += b"content"
    response, body = _response(choice, framing, fault, end, body)
    if fault is Fault.CUT:
        response = response[: choice.randrange(len(response))]
    # Bytes that follow a body arrive with its last one: nobody waits for later ones.
    together = {Fault.MORE: len(MORE) + 1, Fault.SHORT_LENGTH: MISSING + 1}.get(fault, 1)
    pieces = _pieces(choice, response, together)
    pauses = [choice.choice([0, 0, 0.02]), *[choice.choice([0, 0.002])] * 20]
    return Case(number, choice.random() < 0.5, framing, fault, end, body, pieces, pauses)


def _response(
    choice: random.Random, framing: Framing, fault: Fault, end: End, body: bytes
) -> tuple[bytes, bytes]:
    """Return the bytes of a response and the body that it declares."""
    interim = choice.choice([b"102 Processing", b"103 Early Hints\r\nLink: <a>"])
    out = b"HTTP/1.1 %s\r\n\r\n" % interim * choice.choice([0, 0, 1, 3])
    out += b"HTTP/1.1 204 None\r\n" if framing is Framing.NO_BODY else b"HTTP/1.1 200 OK\r\n"
    if end is not End.KEEP and choice.random() < 0.5:
        out += b"Connection: close\r\n"
    length = len(body)
    if framing is Framing.LENGTH:
        length += {Fault.LONG_LENGTH: MISSING, Fault.SHORT_LENGTH: -MISSING}.get(fault, 0)
        out += b"Content-Length: %d\r\n" % length
        if fault is Fault.TWO_LENGTHS:
            out += b"Content-Length: %d\r\n" % (length - 1)
        elif choice.random() < 0.2:
            out += b"content-length: %d\r\n" % length
    if framing is Framing.CHUNKED:
        coding = b"gzip, chunked" if fault is Fault.OTHER_CODING else b"chunked"
        out += b"Transfer-Encoding: %s\r\n" % choice.choice([coding, coding.title()])
        if fault is Fault.TWO_FRAMINGS:
            out += b"Content-Length: %d\r\n" % len(body)
    out += b"\r\n"
    out += _chunked(choice, fault, body) if framing is Framing.CHUNKED else body
    if fault is Fault.MORE:
        out += MORE[-choice.choice([1, 2, len(MORE)]) :]
    return out, body[:length]


def _chunked(choice: random.Random, fault: Fault, body: bytes) -> bytes:
    largest = choice.choice([1, 20, 500] if len(body) <= SMALL else [60, 1000, 30_000, 500_000])
    parts = []
    start = 0
    while start < len(body):
        size = choice.randint((largest + 1) // 2, largest)
        part = body[start : start + size]
        start += size
        extension = choice.choice([b"", b"", b";a=b"])
        parts.append(b"%x%s\r\n%s\r\n" % (len(part), extension, part))
    broken = choice.randrange(len(parts) or 1)
    if fault is Fault.NO_CHUNK_SIZE:
        parts[broken] = b"x" + parts[broken]
    if fault is Fault.LONG_CHUNK:
        parts[broken] = parts[broken][:-2] + b"x\r\n"
    if fault is not Fault.NO_LAST_CHUNK:
        parts.append(b"0\r\n%s\r\n" % choice.choice([b"", b"Server-Timing: a\r\n"]))
    return b"".join(parts)


def _pieces(choice: random.Random, response: bytes, together: int) -> list[bytes]:
    """Cut a response into what is sent at once, its last bytes ``together``."""
    style = choice.choice(["one", "random", "small first", "small last"])
    last = len(response) - 30
    cuts = {
        "one": [],
        "random": [choice.randrange(len(response) + 1) for _ in range(8)],
        "small first": list(range(choice.randint(1, 9), 400, choice.randint(1, 40))),
        "small last": list(range(last, last + 30, choice.randint(1, 4))),
    }[style]
    places = [0, *sorted(each for each in cuts if 0 < each <= len(response) - together), len(response)]
    return [response[start:end] for start, end in pairwise(places)]


@contextmanager
def serving(cases: dict[str, Case], tls: ssl.SSLContext | None) -> Iterator[str]:
    """Answer a request for a case's number with its pieces, in threads, which send all before the end."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(SILENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with (
            suppress(OSError),
            connection if tls is None else tls.wrap_socket(connection, server_side=True) as wire,
        ):
            while _answer(wire, cases):
                pass

    with threaded_server(serve) as place:
        yield f"{'https' if tls else 'http'}://{place}/"


def _answer(wire: socket.socket, cases: dict[str, Case]) -> bool:
    """Answer one request; return whether the connection is kept."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        received = wire.recv(65536)
        if not received:
            return False
        request += received
    case = cases[request.split()[1].decode().strip("/")]
    for piece in case.pieces:
        wire.sendall(piece)
        time.sleep(0)
    if case.end is End.RESET:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif case.end is End.HALF_CLOSE:
        wire.shutdown(socket.SHUT_WR)
        wire.recv(65536)
    elif case.end is End.CLOSE and isinstance(wire, ssl.SSLSocket):
        wire.unwrap()
    return case.end is End.KEEP


async def outcome(http: httpx.AsyncClient, url: str, case: Case) -> Outcome | str:
    """Return what our client reports; a text for what is never allowed."""
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(60), http.stream("GET", f"{url}{case.number}") as response:
            async for part in response.aiter_raw():
                parts.append(part)
                await asyncio.sleep(case.pauses[min(len(parts), len(case.pauses)) - 1])
            has_more = await has_trailing_bytes(response)
    except httpx.TimeoutException as error:
        return repr(error)
    except httpx.TransportError:
        return Outcome.ERROR
    except Exception as error:
        return repr(error)
    if b"".join(parts) != case.body:
        return f"another body, of {sum(map(len, parts))} bytes"
    return Outcome.MORE if has_more else Outcome.BODY


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
async def test_a_body_is_complete_exactly_if_it_is_complete_by_the_protocol(
    tmp_path: Path, *, is_tls: bool
) -> None:
    cases = [case for case in map(a_case, range(CASES)) if case.is_tls is is_tls]
    tls, trust = server_tls(tmp_path)
    wrong: list[str] = []

    async def run(http: httpx.AsyncClient, url: str, some: list[Case]) -> None:
        for case in some:
            found = await outcome(http, url, case)
            if found not in case.allowed:
                wrong.append(f"{case}: {found}")

    def a_client(idle: int) -> httpx.AsyncClient:
        allowed = Addresses(allows_loopback=True)
        return new_client(
            timeout=httpx.Timeout(SILENCE_SECONDS), idle=idle, headers={}, verify=trust, addresses=allowed
        )

    with serving({str(case.number): case for case in cases}, tls if is_tls else None) as url:
        async with (
            a_client(AT_ONCE) as keeping,
            # A server may close a kept connection while the next request is sent, which is then not repeated.
            a_client(0) as closing,
            asyncio.TaskGroup() as group,
        ):
            for start in range(AT_ONCE):
                some = cases[start::AT_ONCE]
                group.create_task(run(keeping, url, [case for case in some if case.is_announced]))
                group.create_task(run(closing, url, [case for case in some if not case.is_announced]))
    assert not wrong, wrong


def test_the_cases_have_each_fault_and_each_end_of_each_kind_of_body() -> None:
    cases = [a_case(number) for number in range(CASES)]
    assert {(case.framing, case.fault) for case in cases} >= {
        (framing, fault) for framing, faults in FAULTS.items() for fault in faults
    }
    honest = {(case.framing, case.end, case.is_tls) for case in cases if case.fault is Fault.NONE}
    assert len(honest) >= 2 * (len(Framing) * len(End) - 1)
