"""An eSAW that finds envelopes by the time of sending, as real and as hostile ones list them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from counterfoil.esaw import ApiToken, EsawUserClient, FilesResponse, FoundEnvelope
from counterfoil.esaw.errors import EsawError, ResponseTooLarge
from counterfoil.esaw.models import ListedDocument
from counterfoil.esaw.transport import FileDownload
from counterfoil.resources import EnvelopeStatus
from tests.support.builders import NOON
from tests.support.fakes.esaw import FakeEsawClient


def numbered(number: int) -> str:
    return f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d"


async def _nothing() -> None:
    return


class FindingEsawClient(FakeEsawClient):
    """Finds envelopes, per token."""

    def __init__(self) -> None:
        super().__init__()
        self.finds: dict[str, dict[EnvelopeStatus, list[str]]] = {}
        self.problems: dict[str, Exception] = {}
        """By token."""
        self.spans: list[tuple[datetime, datetime]] = []
        self.sent: dict[str, datetime] = {}
        """When envelopes were sent, by default a minute before noon: eSAW looks for envelopes by that
        time."""
        self.ignores_time = False
        self.endless = False
        """Each answer has 1,000 other envelopes."""
        self.most_hits = 10_000
        """The number of hits after which an answer is cut off, in silence."""
        self.too_large: timedelta | None = None
        """Answers for a longer span are too large."""
        self.files: dict[str, tuple[int, ...] | EsawError] = {}
        """Sizes of the files of an envelope, by default one of 1,000 bytes; or why eSAW does not show
        them."""
        self.listed: list[str] = []
        """Envelopes whose files were listed."""
        self.opened: list[str] = []
        """Ids of the files that were opened."""
        self.while_opened: Callable[[], Awaitable[None]] = _nothing
        self.is_chunked = False
        """Whether eSAW declares no length of a file."""
        self.read = 0
        """Bytes that were read of files."""

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return FakeEsawUser(self, token)


class FakeEsawUser(EsawUserClient):
    def __init__(self, esaw: FindingEsawClient, token: ApiToken) -> None:
        self._esaw = esaw
        self.token = token

    async def find(
        self,
        *,
        status: EnvelopeStatus | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        sender_email: str | None = None,
    ) -> tuple[FoundEnvelope, ...]:
        assert status is not None
        assert start is not None
        assert end is not None
        self._esaw.spans.append((start, end))
        whose = self.token.reveal()
        if whose in self._esaw.problems:
            raise self._esaw.problems[whose]
        if self._esaw.too_large is not None and end - start > self._esaw.too_large:
            raise ResponseTooLarge("find", 2**24)
        if self._esaw.endless:
            number = 1000 * len(self._esaw.spans)
            return tuple(FoundEnvelope(id=numbered(number + each)) for each in range(1000))
        hits = [
            each
            for each in self._esaw.finds.get(whose, {}).get(status, [])
            if self._esaw.ignores_time or start < self._esaw.sent.get(each, NOON - timedelta(minutes=1)) < end
        ]
        return tuple(FoundEnvelope(id=each) for each in hits[: self._esaw.most_hits])

    async def files(self, envelope: str) -> FilesResponse:
        self._esaw.listed.append(envelope)
        sizes = self._esaw.files.get(envelope, (1000,))
        if isinstance(sizes, EsawError):
            raise sizes
        documents = [ListedDocument(file_id=f"{size}-{number}") for number, size in enumerate(sizes)]
        return FilesResponse(documents=tuple(documents))

    @asynccontextmanager
    async def download(self, file_id: str) -> AsyncIterator[FileDownload]:
        self._esaw.opened.append(file_id)
        await self._esaw.while_opened()
        size = int(file_id.partition("-")[0])
        declared = None if self._esaw.is_chunked else size
        yield FileDownload(declared, "application/pdf", self._chunks(size), is_named=True)

    async def _chunks(self, size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 2**20):
            chunk = bytes(min(2**20, size - start))
            self._esaw.read += len(chunk)
            yield chunk


def key_of(sender: str) -> str:
    return (sender * 66)[:66]
