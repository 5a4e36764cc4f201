"""
Tags, evaluated in a separate process for each envelope, which the kernel limits
(``python -m counterfoil.archives.tags_subprocess CPU_SECONDS``).

The cost of an XPath or a JSONPath can grow with the square of the metadata, or exponentially, also on a few
characters. Metadata is untrusted text, so it is parsed in that process only, also a few bytes of it: a
request costs the event loop a fraction of a millisecond. The process gets rules and metadata by its standard
input. It notes each rule before the evaluation, so that the parent knows which rule exceeded the limits.
"""

import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from typing import BinaryIO

import msgspec

from counterfoil.archives.layout import EnvelopeFacts, check_aside, envelope_fields
from counterfoil.archives.tags import (
    METADATA_LIMIT,
    FoundTags,
    MetadataTooHeavy,
    MetadataUnreadable,
    TagMissing,
    collect,
    find,
    reads_metadata,
)
from counterfoil.resources.archive import ArchiveSpec, TagRule
from counterfoil.untrusted.fair_slots import FairSlots, namespace_of
from counterfoil.worker_processes.pool import WorkerPool, WorkerStopped
from counterfoil.worker_processes.worker import Note, Sample, serve

_log = logging.getLogger(__name__)

CPU_SECONDS = 2
"""For all rules of one Archive in the metadata of one envelope; a form takes less than a millisecond."""

TIMEOUT_SECONDS = 60.0
"""Longest time for that, on a machine that has much else to do."""

MAX_MEMORY_BYTES = 192 * 1024 * 1024
"""Bytes of address space: 45 MiB for Python and its libraries, 130 MiB for what is made of 1 MiB of
metadata."""

SMALL_METADATA_BYTES = 64 * 1024
"""Bytes of metadata with which a request waits for no other one before it is encoded."""

LIMITS = f"{CPU_SECONDS} seconds of computing, or {MAX_MEMORY_BYTES // 1024 // 1024} MiB of memory,"


class TagRequest(msgspec.Struct, frozen=True):
    """The request to the process."""

    rules: dict[str, TagRule]
    metadata: str
    fields: dict[str, str]
    parameters: dict[str, str] = {}


class TagResult(msgspec.Struct, frozen=True):
    """The result: the fields of ``FoundTags``, or the missing required tag, or why the metadata can't be
    read for one."""

    tags: dict[str, str] = {}
    unsure: dict[str, str] = {}
    missing: str | None = None
    unreadable: str | None = None


class TagWorkers:
    """Processes that evaluate rules for tags, one for each envelope; the owner closes what starts them."""

    def __init__(self, *, cpu_seconds: int = CPU_SECONDS) -> None:
        command = (sys.executable, "-I", "-m", "counterfoil.archives.tags_subprocess", str(cpu_seconds))
        self._large = FairSlots(1, group_of=namespace_of)
        # One process at a time: a form takes it some milliseconds, and the libraries have 30 MiB.
        self._pool = WorkerPool(command, count=1, seconds=TIMEOUT_SECONDS)
        self._namespace = ""

    def in_namespace(self, namespace: str) -> "TagWorkers":
        """Return the same processes for the Organizations of a namespace, which take turns with those of
        others."""
        part = copy(self)
        part._namespace = namespace
        return part

    async def collect(self, spec: ArchiveSpec, envelope: EnvelopeFacts) -> dict[str, str]:
        """
        Return the tags of an envelope.

        Raises ``MetadataTooHeavy``, what ``layout.make_layout`` raises, and what ``WorkerPool.request``
        raises if the process failed before the first rule, or not because of the metadata.
        """
        await check_aside(spec)
        try:
            return (await self.evaluate(spec.tags, envelope)).values
        except MetadataTooHeavy as heavy:
            return _without_metadata(spec.tags, envelope_fields(envelope), envelope.parameters, heavy)

    async def evaluate(self, rules: Mapping[str, TagRule], envelope: EnvelopeFacts) -> FoundTags:
        """
        Return what rules find, by their keys.

        Raises ``MetadataTooHeavy`` also if no rule is required, else as ``collect``.
        """
        fields, metadata = envelope_fields(envelope), envelope.metadata or b""
        owner = f"{self._namespace}/{envelope.organization}"
        if not _is_parsed(rules, metadata):
            return find(rules, envelope.metadata_text, fields, envelope.parameters)
        try:
            async with self._turn(owner, len(metadata)):
                request = TagRequest(dict(rules), envelope.metadata_text, fields, dict(envelope.parameters))
                # In ASCII, since metadata may have halves of characters.
                encoded = json.dumps(msgspec.to_builtins(request)).encode()
                del request
                result = await self._pool.request(TagResult, encoded, owner=owner, notes=len(rules))
        except WorkerStopped as stopped:
            if not (stopped.note and stopped.by_own_limits):
                raise
            name = stopped.note.decode()
            raise MetadataTooHeavy(name, rules[name], LIMITS) from stopped
        if result.missing is not None:
            raise TagMissing(result.missing, rules[result.missing])
        if result.unreadable is not None:
            raise MetadataUnreadable(result.unreadable)
        return FoundTags(result.tags, result.unsure)

    @asynccontextmanager
    async def _turn(self, owner: str, size: int) -> AsyncIterator[None]:
        """Wait until no other request with large metadata is encoded: that takes up to ten times its size."""
        if size <= SMALL_METADATA_BYTES:
            yield
            return
        async with self._large.slot(owner):
            yield

    async def aclose(self) -> None:
        """End the process that starts them."""
        await self._pool.aclose()


def _is_parsed(rules: Mapping[str, TagRule], metadata: bytes) -> bool:
    """Whether a rule needs the metadata, and the metadata is not refused for its length alone."""
    return 0 < len(metadata) <= METADATA_LIMIT and any(map(reads_metadata, rules.values()))


def _without_metadata(
    rules: Mapping[str, TagRule],
    fields: Mapping[str, str],
    parameters: Mapping[str, str],
    heavy: MetadataTooHeavy,
) -> dict[str, str]:
    """Return the tags that need no metadata. Raises ``MetadataTooHeavy`` if a required tag needs it."""
    if any(rule.required and reads_metadata(rule) for rule in rules.values()):
        raise heavy
    _log.warning(
        "tags of an envelope are omitted: its metadata is too heavy for the rule of `%s`", heavy.name
    )
    others = {name: rule for name, rule in rules.items() if not reads_metadata(rule)}
    return collect(others, None, fields, parameters)


# -- The process ---------------------------------------------------------------------------------------------


def main() -> int:
    """Evaluate what comes in until the input ends."""
    serve(answer_request, memory_bytes=MAX_MEMORY_BYTES, cpu_seconds=int(sys.argv[1]), samples=_samples())
    return 0


def _samples() -> Iterator[Sample]:
    for metadata, rule in (
        ("<a><b>text</b></a>", TagRule(xpath="/a/b/text()")),
        ('{"a": ["text"]}', TagRule(json_path="$.a[0]")),
    ):
        yield msgspec.json.encode(TagRequest({"tag": rule}, metadata, {})), b""


def answer_request(request: bytes, _size: int, _requests: BinaryIO, note: Note) -> bytes:
    """Return the ``TagResult`` of a ``TagRequest``, both as JSON."""
    return msgspec.json.encode(_evaluate(msgspec.convert(json.loads(request), TagRequest), note))


def _evaluate(request: TagRequest, note: Note) -> TagResult:
    try:
        found = find(
            request.rules,
            request.metadata,
            request.fields,
            request.parameters,
            on_rule=lambda name: note(name.encode()),
        )
    except TagMissing as missing:
        return TagResult(missing=missing.name)
    except MetadataUnreadable as unreadable:
        return TagResult(unreadable=unreadable.why)
    return TagResult(found.values, found.unsure)


if __name__ == "__main__":
    sys.exit(main())
