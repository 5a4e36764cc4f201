"""
Archives of kind ``http``: any system that takes files by HTTP. docs/archives.md says what it has to answer.

Each file takes two requests. The first carries its bytes, as the body or as a part of a form; they are not
known before they were sent, so its signature covers the file's name and similar facts. The second, a message
by the rules of Standard Webhooks, says how many bytes there were and what their SHA-256 is; with it the file
counts as filed, and its answer says where it is. The system keeps what was not concluded under no name. One
idempotency key stands for one name, so that a file that comes again replaces itself. A request without a body
signs its method and its target, so that nobody can use its signature for another request.

It can't be asked what it has: whether a name is taken is for the system to say, by answering 409.
"""

import base64
import hashlib
import json
import math
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Container, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import ClassVar
from urllib.parse import quote, urljoin, urlsplit

import httpx
import msgspec

from counterfoil.archives.backend import (
    ChecksumReported,
    FileNotReturned,
    FileNotStored,
    Opener,
    StoredEntry,
    required_settings,
    segments,
)
from counterfoil.archives.backends._http import (
    LACKING_STATUSES,
    NOT_FOUND_STATUSES,
    RECOGNIZED_SECONDS,
    HttpSite,
    MultipartForm,
    path_of,
)
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import (
    MOVE_AWAY,
    ArchiveError,
    ArchiveRefused,
    NameTaken,
    SettingsInvalid,
    VerificationFailed,
)
from counterfoil.archives.streams import HashingCounter, counting
from counterfoil.clock import Clock, WallClock
from counterfoil.origin import origin_of
from counterfoil.resources.archive import ArchiveSpec, HttpMode, VerifyMode
from counterfoil.resources.envelopeevent import MAX_LOCATION_LENGTH
from counterfoil.standard_webhooks import (
    SECRET_PREFIX,
    SigningSecretInvalid,
    WebhookSignature,
    decoded_key,
)
from counterfoil.untrusted.json_bounds import JSON_ERRORS

FIELD = "spec.http.url"

MAX_SENT_MEMORY = 8 * 1024 * 1024
"""Bytes of memory of what one backend knows about the files that it sent: a system chooses how long a
location is."""

_SENT_ENTRY_MEMORY = 110
"""Bytes of memory of an entry of a dictionary."""

_UNQUOTED = "!#$%&'()*+,/:;=?@[]"
"""Characters that stay as they are in an address, in addition to letters, digits and ``-._~``. (RFC 3986)"""

_CONFLICT = 409
_UNPROCESSABLE = 422
_OF_THE_SYSTEM = frozenset({403, _CONFLICT, _UNPROCESSABLE, *LACKING_STATUSES, *NOT_FOUND_STATUSES})
"""Errors that say something about rights, names and files."""


async def open_http(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "HttpBackend":
    """Open the archive ``name``; nothing is asked of the system yet. Raises ``SettingsInvalid``."""
    settings = required_settings(name, "spec.http", spec.http)
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    site, clock = HttpSite.open("the system", FIELD, settings.url, secret), WallClock()
    return HttpBackend(site, settings.mode, spec.verify, _signature(name, secret, clock), clock)


OPENER: Opener = open_http


class HttpConclusion(msgspec.Struct, frozen=True):
    """Answer of the system to a concluded file; it may have more fields."""

    location: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that this process sent. ``size`` in bytes; ``location`` only if it is not where its name is."""

    size: int
    sha256: str
    location: str | None


class SentFiles:
    """The files that were sent last, by name. One that is no longer known is requested by its own name, or
    sent again."""

    def __init__(self) -> None:
        self.memory = 0
        """Bytes."""
        self._files: dict[str, SentFile] = {}

    def get(self, name: str) -> SentFile | None:
        """Return a file; None: it was not sent, or is forgotten."""
        return self._files.get(name)

    def remember(self, name: str, file: SentFile) -> None:
        """Add or replace a file, and forget the oldest ones if all take more than ``MAX_SENT_MEMORY``."""
        self.forget(name)
        self._files[name] = file
        self.memory += _memory_of(name, file)
        while self.memory > MAX_SENT_MEMORY:
            self.forget(next(iter(self._files)))

    def forget(self, name: str) -> SentFile | None:
        """Remove a file, and return it if it was there."""
        file = self._files.pop(name, None)
        if file is not None:
            self.memory -= _memory_of(name, file)
        return file


class HttpBackend:
    """A system behind one address. A file is at the location that the system answered, or at its own URL."""

    kind: ClassVar[str] = "http"
    lists_files = False

    def __init__(
        self, site: HttpSite, mode: HttpMode, verify: VerifyMode, signature: WebhookSignature, clock: Clock
    ) -> None:
        self._site = site
        self._mode = mode
        self._verify = verify
        self._signature = signature
        self._clock = clock
        self._sent = SentFiles()
        self._recognized = -math.inf
        """Monotonic time at which the system took a probe."""

    def location(self, name: str) -> str:
        """Return the address that a name has, unless the system answers with another one."""
        return f"{self._site.url}/{path_of(segments(name))}"

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return nothing: there is no way to ask."""
        segments(folder)
        return []

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Send a file, then conclude it. Raises ``ArchiveError``."""
        segments(name)
        facts = {"name": name, "contentType": content_type or "application/octet-stream"}
        upload, counter = f"file_{secrets.token_hex(16)}", HashingCounter()
        async with aclosing(counting(chunks, counter)) as stream:
            await self._send(upload, facts, tags, stream)
        proof = {"upload": upload, "size": counter.size, "sha256": counter.sha256}
        conclusion = await self._conclude(name, {**facts, **proof, "tags": dict(tags)})
        self._check(name, conclusion, counter)
        self._remember(name, conclusion, counter)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield a file block by block. Raises ``FileNotStored``; if the Archive accepts checksums,
        ``ChecksumReported`` or ``FileNotReturned``."""
        segments(name)
        known = self._sent.get(name)
        if self._verify is VerifyMode.CHECKSUM:
            if known is None:
                raise FileNotReturned
            raise ChecksumReported(known.size, known.sha256)
        location = known.location if known is not None else None
        try:
            async with aclosing(self._get(name, location or self.location(name))) as stream:
                async for block in stream:
                    yield block
        except FileNotStored:
            # Somebody may have replaced the file, and with it its address: its own name still leads there.
            if known is None or location is None:
                raise
            if self._sent.get(name) is known:
                self._sent.remember(name, replace(known, location=None))
        else:
            return
        async with aclosing(self._get(name, self.location(name))) as stream:
            async for block in stream:
                yield block

    async def discard(self, name: str) -> None:
        """Have a file removed, if the system does that."""
        known = self._sent.forget(name)
        url = (known.location if known is not None else None) or self.location(name)
        answer = await self._site.request("DELETE", url, headers=self._bodiless("DELETE", url))
        if not answer.is_success:
            await self._expect_absence(name, answer)

    async def probe(self) -> None:
        """Ask whether files would be accepted, without sending one: it might be stored permanently. Raises
        ``ArchiveError``."""
        answer = await self._send_message("counterfoil.probe", _message("probe"), {})
        if not answer.is_success:
            raise self._refusal(answer)
        self._recognized = self._clock.monotonic()

    async def remove_leftovers(self, folder: str) -> None:
        """Nothing to do: what was not concluded has no name."""

    async def close(self) -> None:
        """Close the connections."""
        await self._site.close()

    async def _get(self, name: str, url: str) -> AsyncGenerator[bytes, None]:
        async with self._site.stream("GET", url, headers=self._bodiless("GET", url)) as response:
            if response.status_code == 200:
                async with aclosing(self._site.stored_content(name, response)) as content:
                    async for block in content:
                        yield block
                return
        await self._expect_absence(name, response)
        if response.status_code in LACKING_STATUSES and self._sent.get(name) is not None:
            raise self._missing_feature(
                "return the stored files", "Let it answer GET, or set spec.verify to Checksum."
            )
        raise FileNotStored

    async def _expect_absence(self, name: str, answer: httpx.Response) -> None:
        """Raise ``ArchiveError`` unless the system says that a file is not there, or that it has no such
        method."""
        if answer.status_code not in LACKING_STATUSES | NOT_FOUND_STATUSES:
            raise self._refusal(answer)
        # A file in the root, which the marker is, is never missing by an earlier probe.
        is_recent = "/" in name and self._clock.monotonic() - self._recognized < RECOGNIZED_SECONDS
        # A text is of the system, or of a proxy: what takes a probe is the system.
        if _is_text(answer) and not is_recent:
            await self.probe()

    async def _send(
        self, upload: str, facts: Mapping[str, str], tags: Mapping[str, str], chunks: AsyncIterable[bytes]
    ) -> None:
        described = base64.urlsafe_b64encode(_json(facts)).decode()
        headers = {
            "Idempotency-Key": self._key_of(facts["name"]),
            "Counterfoil-File": described,
            "Content-Type": facts["contentType"],
            **self._signature.headers(upload, described.encode()),
        }
        if self._mode is HttpMode.MULTIPART:
            fields = {"name": facts["name"], **{f"tags.{tag}": value for tag, value in tags.items()}}
            form = MultipartForm(fields, "file", facts["name"].rpartition("/")[2], facts["contentType"])
            headers["Content-Type"], chunks = form.content_type, form.encode(chunks)
        answer = await self._site.upload("POST", self._site.url, chunks, headers=headers)
        if not answer.is_success:
            raise self._error_for_file(facts["name"], answer)

    async def _conclude(self, name: str, data: Mapping[str, object]) -> HttpConclusion:
        # Sent again it is the same message, whose id a receiver may remember.
        # What it says decides, so an answer whose end is missing says nothing.
        answer = await self._send_message(
            "counterfoil.file", f"end_{data['upload']}", data, contents=("POST",)
        )
        if not answer.is_success:
            raise self._error_for_file(name, answer)
        try:
            return msgspec.json.decode(answer.content or b"{}", type=HttpConclusion)
        except JSON_ERRORS as error:
            raise self._missing_feature(
                "say where a file is", 'Let it answer JSON like {"location": "…", "sha256": "…"}.'
            ) from error

    async def _send_message(
        self, kind: str, message: str, data: Mapping[str, object], *, contents: Container[str] = ()
    ) -> httpx.Response:
        """Send a message by the rules of Standard Webhooks."""
        body = _json({"type": kind, "timestamp": self._signature.now(), "data": data})
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message,
            **self._signature.headers(message, body),
        }
        return await self._site.request(
            "POST", self._site.url, headers=headers, content=body, contents=contents
        )

    def _bodiless(self, method: str, url: str) -> dict[str, str]:
        """Return the headers of a request without a body; its payload is method and target, as in its first
        line."""
        target = httpx.URL(url).raw_path
        return self._signature.headers(_message(method.lower()), method.encode() + b" " + target)

    def _check(self, name: str, conclusion: HttpConclusion, counter: HashingCounter) -> None:
        """Hold what the system says against what was sent."""
        if conclusion.sha256 is None and self._verify is VerifyMode.CHECKSUM:
            raise self._missing_feature(
                "tell the SHA-256 of a file", "Let it answer one, or set spec.verify to ReadBack."
            )
        if conclusion.sha256 is not None and conclusion.sha256.lower() != counter.sha256:
            raise VerificationFailed(
                f"{self.location(name)}: {self._site.server} has other bytes than were sent, by its own "
                "SHA-256."
            )

    def _remember(self, name: str, conclusion: HttpConclusion, counter: HashingCounter) -> None:
        told = conclusion.location
        location = _joined(self._site.url, told) if told is not None else None
        other = location if location != self.location(name) else None
        self._sent.remember(name, SentFile(counter.size, counter.sha256, other))
        if told is not None and location is None and self._verify is VerifyMode.READ_BACK:
            raise self._missing_feature(
                "return the stored files, since the place that it names is no address on its own "
                "host, or too long",
                "Let it name one, or set spec.verify to Checksum.",
            )

    def _key_of(self, name: str) -> str:
        return hashlib.sha256(self.location(name).encode()).hexdigest()[:32]

    def _error_for_file(self, name: str, answer: httpx.Response) -> ArchiveError:
        if answer.status_code == _CONFLICT and not _is_text(answer):
            return NameTaken(
                f"{self.location(name)} is there already, as {self._site.server} says (HTTP 409). {MOVE_AWAY}"
            )
        if answer.status_code == _UNPROCESSABLE and not _is_text(answer):
            return VerificationFailed(
                f"{self.location(name)}: {self._site.server} got other bytes than were sent (HTTP 422)."
            )
        return self._refusal(answer)

    def _refusal(self, answer: httpx.Response) -> ArchiveError:
        """Return what a refusal means: of a text nobody knows who sent it."""
        status = answer.status_code
        if status in _OF_THE_SYSTEM and _is_text(answer):
            return self._site.unrecognized_response(f"HTTP {status}, a text", "a sign of the system")
        if status in NOT_FOUND_STATUSES:
            return ArchiveRefused(
                "ArchiveRootMissing",
                f"{self._site.archive}: there is nothing at {self._site.url} that takes files (HTTP "
                f"{status}), or a proxy answers for it. Correct {FIELD}, or the proxy.",
            )
        return self._site.error_for_status(status)

    def _missing_feature(self, what: str, then: str) -> ArchiveError:
        return ArchiveRefused(
            "ArchiveLacksFeature", f"{self._site.archive}: {self._site.server} does not {what}. {then}"
        )


def _signature(archive: str, secret: Credentials, clock: Clock) -> WebhookSignature:
    """Read ``signingSecret``: base64 behind ``whsec_``, or any text. Raises ``SettingsInvalid``."""
    text = secret.line("signingSecret")
    if text is None:
        return WebhookSignature((), clock)
    try:
        key = decoded_key(text) if text.startswith(SECRET_PREFIX) else text.encode()
    except SigningSecretInvalid as invalid:
        raise SettingsInvalid(
            f"Archive/{archive}: `{secret.name_of('signingSecret')}` in {secret.secret} can't be used: "
            f"{invalid}."
        ) from invalid
    return WebhookSignature((key,), clock)


def _is_text(answer: httpx.Response) -> bool:
    """Whether an answer is for people, as a page of a proxy is."""
    return str(answer.headers.get("Content-Type", "")).lower().startswith("text/")


def _memory_of(name: str, file: SentFile) -> int:
    return sum(map(sys.getsizeof, (name, file, file.size, file.sha256, file.location))) + _SENT_ENTRY_MEMORY


def _message(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _joined(url: str, location: str) -> str | None:
    """Return the address that a location stands for; None if it is none of the same site, which is all that
    is asked."""
    if len(location) > MAX_LOCATION_LENGTH:
        return None
    try:
        # Other characters take up to twelve in the address, and much longer to parse with each request.
        if len(quote(location, safe=_UNQUOTED)) > MAX_LOCATION_LENGTH:
            return None
        joined = urljoin(f"{url}/", location)
        # A control character makes it no address, so before it is quoted.
        httpx.URL(joined)
        if origin_of(joined) != origin_of(url):
            return None
        # The host in the spelling of the Archive: an international one that is quoted is another host.
        own, other = urlsplit(url), urlsplit(joined)
        rest = joined.removeprefix(f"{other.scheme}://{other.netloc}")
        return f"{own.scheme}://{own.netloc}{quote(rest, safe=_UNQUOTED)}"
    except (ValueError, httpx.InvalidURL):
        return None
