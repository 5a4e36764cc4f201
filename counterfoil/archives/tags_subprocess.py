"""
Tags from heavy metadata, evaluated in a separate process that the kernel limits
(``python -m counterfoil.archives.tags_subprocess SECONDS``).

What an XPath or a JSONPath costs can grow with the square or the cube of what it looks through, and metadata
is untrusted text: 50 KiB can be made to take half a minute. So what is light is looked through here, as
nearly all metadata is, and the rest there. That process gets rules and metadata by its standard input, has
none of the controller's environment, and answers with the tags or with why there are none.
"""

import asyncio
import json
import logging
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from counterfoil.archives.layout import EnvelopeFacts, check, envelope_fields
from counterfoil.archives.tags import METADATA_LIMIT, MetadataUnreadable, TagMissing, collect
from counterfoil.resources.archive import ArchiveSpec, TagRule

_log = logging.getLogger(__name__)

MAX_LIGHT_NODES = 200
"""Marks that a notation makes of text (as ``<`` or ``,``) up to which every rule is evaluated at once."""

CPU_SECONDS = 5
"""For all rules of one Archive in the metadata of one envelope."""

TIMEOUT_SECONDS = 60.0
"""Longest time for that, on a machine that has much else to do."""

MAX_MEMORY_BYTES = 512 * 1024 * 1024
"""Bytes of address space: 150 MiB for Python and its libraries, the rest for what is made of 1 MiB of
metadata."""

TOO_EXPENSIVE = f"its rules find nothing in it within {CPU_SECONDS} seconds of computing"

_MARKS = {True: "<=", False: ",:{["}
_one_at_a_time = asyncio.Semaphore(1)


class TagRequest(msgspec.Struct, frozen=True):
    """The request to the process."""

    rules: dict[str, TagRule]
    metadata: str
    fields: dict[str, str]
    parameters: dict[str, str] = {}


class TagResult(msgspec.Struct, frozen=True):
    """The result: the tags, or the missing required tag, or why the metadata can't be read."""

    tags: dict[str, str] = {}
    missing: str | None = None
    unreadable: str | None = None


async def collect_in_subprocess(
    spec: ArchiveSpec, envelope: EnvelopeFacts, *, cpu_seconds: int = CPU_SECONDS
) -> dict[str, str]:
    """Return the tags of an envelope. Raises as ``layout.make_layout`` does."""
    check(spec)
    fields, metadata = envelope_fields(envelope), envelope.metadata or ""
    if is_light(metadata):
        return collect(spec.tags, metadata, fields, envelope.parameters)
    request = TagRequest(spec.tags, metadata, fields, dict(envelope.parameters))
    async with _one_at_a_time:
        answer = await _run_subprocess(request, cpu_seconds)
    if answer is None:
        return _without_metadata(spec.tags, fields, envelope.parameters)
    if answer.missing is not None:
        raise TagMissing(answer.missing, spec.tags[answer.missing])
    if answer.unreadable is not None:
        raise MetadataUnreadable(answer.unreadable)
    return answer.tags


def is_light(metadata: str) -> bool:
    """Whether it is looked through in no time, or not at all since it is too long."""
    if len(metadata) > METADATA_LIMIT:
        return True
    marks = _MARKS[metadata.lstrip("\ufeff \t\r\n").startswith("<")]
    return sum(metadata.count(mark) for mark in marks) <= MAX_LIGHT_NODES


def _without_metadata(
    rules: Mapping[str, TagRule], fields: Mapping[str, str], parameters: Mapping[str, str]
) -> dict[str, str]:
    others = {name: rule for name, rule in rules.items() if rule.xpath is None and rule.json_path is None}
    if any(rule.required for name, rule in rules.items() if name not in others):
        raise MetadataUnreadable(TOO_EXPENSIVE)
    return collect(others, None, fields, parameters)


async def _run_subprocess(order: TagRequest, cpu_seconds: int) -> TagResult | None:
    """Have it done; None if it was too much."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "counterfoil.archives.tags_subprocess", str(cpu_seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            # In ASCII, since metadata may have halves of characters.
            told, _ = await process.communicate(json.dumps(msgspec.to_builtins(order)).encode())
    except TimeoutError:
        told = b""
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if not told:
        _log.warning("rules for tags were given up: the metadata of an envelope is too much for them")
        return None
    return msgspec.json.decode(told, type=TagResult)


def _limit(cpu_seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + cpu_seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until, until))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _evaluate(told: Any) -> TagResult:
    order = msgspec.convert(told, TagRequest)
    try:
        return TagResult(collect(order.rules, order.metadata, order.fields, order.parameters))
    except TagMissing as missing:
        return TagResult(missing=missing.name)
    except MetadataUnreadable as unreadable:
        return TagResult(unreadable=unreadable.why)


def main() -> int:
    """Do what the standard input says; return the exit status."""
    _limit(int(sys.argv[1]))
    sys.stdout.buffer.write(msgspec.json.encode(_evaluate(json.loads(sys.stdin.buffer.read()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
