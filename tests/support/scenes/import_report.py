"""Support for the tests of the report of an Import: rows, parts, and an archive that hangs."""

import asyncio
from collections.abc import AsyncIterable, Mapping
from typing import Any

from msgspec.structs import replace

from counterfoil.archives.import_report.content import (
    PartHeader,
    ReportOutcome,
    ReportPart,
    ReportRow,
    make_part,
)
from tests.support.builders import ENVELOPE
from tests.support.fakes.archives import MemoryBackend


def a_row(envelope: str = ENVELOPE, outcome: ReportOutcome = ReportOutcome.STARTED) -> ReportRow:
    return ReportRow(
        envelope_id=envelope,
        sender="anna",
        status="Completed",
        outcome=outcome,
        sent_from="2019-01-01T00:00:00Z",
        sent_until="2019-01-08T00:00:00Z",
    )


def a_header(**changes: Any) -> PartHeader:
    header = PartHeader(
        import_="old-stock",
        uid="uid-old-stock",
        namespace="tests",
        organization="acme",
        origin="https://esaw.example.com",
        number=1,
        previous=None,
        sender="anna",
        sent_from="2019-01-01T00:00:00Z",
        sent_until="2019-01-08T00:00:00Z",
        list_=None,
        counts={},
        csv_sha256="",
        sealed_by=None,
    )
    return replace(header, **changes)


def a_part(*rows: ReportRow, **changes: Any) -> ReportPart:
    return make_part(a_header(**changes), rows)


class HangingBackend(MemoryBackend):
    """Notes which Organizations write into it at the same time."""

    def __init__(self, name: str, waiting: list[str]) -> None:
        super().__init__()
        self.name, self.waiting = name, waiting
        self.answers = asyncio.Event()

    @property
    def server_origin(self) -> str:
        return f"https://{self.name}.example"

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        self.waiting.append(name.split("/")[1])
        await self.answers.wait()
        await super().put(name, chunks, tags=tags, content_type=content_type)
