"""
A hostile archive server: a true one behind a proxy that lies about it or does harm.

Each method of ``HostileServer`` is a switch for the requests that ``where`` matches. It returns the trap, and
``Proxy.remove`` switches it off. The true server does all that it is asked for, unless the switch answers in
its place.
"""

import copy
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from xml.etree import ElementTree as ET

from sandbox.servers.proxies import Hold, Instead, Passage, Proxy, Trap, TrapPoint, Where

XML_ENTRIES: Final = frozenset({"Contents", "CommonPrefixes", "Blob", "BlobPrefix", "response"})
"""Elements of a list that stand for one name: of S3, Azure Blob Storage and WebDAV."""
JSON_ENTRIES: Final = ("objects", "items")
"""Members of a list that hold the names: of CMIS and Google Cloud Storage."""
PLANTED_HEADERS: Final = MappingProxyType(
    {"ETag": '"planted"', "Last-Modified": "Wed, 01 Jul 2026 12:00:00 GMT"}
)


@dataclass(eq=False)
class _OnPassage:
    """A trap's condition and action that know the request."""

    where: Where
    act: Callable[[Passage], None]
    passage: Passage | None = None

    def matches(self, passage: Passage) -> bool:
        """Whether the request matches; it is the one that the action changes."""
        self.passage = passage if self.where(passage) else None
        return self.passage is not None

    async def __call__(self) -> None:
        """Change the request that matched last."""
        assert self.passage is not None  # noqa: S101 - a trap springs only after it matched
        self.act(self.passage)


class HostileServer:
    """The switches."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def trickles(self, where: Where, byte_seconds: float) -> Trap:
        """Send the body of an answer one byte at a time, with this pause after each."""

        def slow(passage: Passage) -> None:
            passage.byte_seconds = byte_seconds

        return self._on(where, slow)

    def has_no_end(self, where: Where) -> Trap:
        """Send zeros after the body of an answer, without an end."""

        def extend(passage: Passage) -> None:
            passage.is_endless = True

        return self._on(where, extend)

    def hangs(self, where: Where, after_bytes: int | None = None) -> Trap:
        """Stop after this many bytes of an answer's body, before the answer without a number; the connection
        stays open."""
        point = TrapPoint.ARRIVED if after_bytes is None else TrapPoint.MIDDLE
        return self.proxy.trap(where, point, Hold(), after_bytes=after_bytes or 0, times=None)

    def redirects(self, where: Where, location: str, status: int = 307) -> Trap:
        """Answer with a redirect to this place."""
        return self._instead(where, Instead(status, headers={"Location": location}))

    def plants(self, path: str, content: bytes, *, headers: Mapping[str, str] = PLANTED_HEADERS) -> Trap:
        """Answer each read of this path as if a file with this content were there. (HTTP and S3; in a server
        with a folder, anybody can write the file itself.)"""

        def reads(passage: Passage) -> bool:
            return passage.method in ("GET", "HEAD") and passage.path == path

        return self._instead(reads, Instead(200, content, "application/octet-stream", headers))

    def doubles_names(self, where: Where) -> Trap:
        """List each name twice."""

        def double(passage: Passage) -> None:
            passage.rewrite = doubled

        return self._on(where, double)

    def _on(self, where: Where, act: Callable[[Passage], None]) -> Trap:
        on_passage = _OnPassage(where, act)
        return self.proxy.trap(on_passage.matches, TrapPoint.ARRIVED, on_passage, times=None)

    def _instead(self, where: Where, answer: Instead) -> Trap:
        return self.proxy.trap(where, TrapPoint.ARRIVED, _raising(answer), times=None)


def doubled(body: bytes) -> bytes:
    """Return a list with each of its entries twice; what is no list stays as it is."""
    if body.lstrip()[:1] == b"{":
        content = json.loads(body)
        for name in JSON_ENTRIES:
            if isinstance(content.get(name), list):
                content[name] = [each for each in content[name] for _ in range(2)]
        return json.dumps(content).encode()
    try:
        root = ET.fromstring(body)  # noqa: S314 - of a server of this machine
    except ET.ParseError:
        return body
    for parent in list(root.iter()):
        for entry in list(parent):
            if entry.tag.rpartition("}")[2] in XML_ENTRIES:
                parent.insert(list(parent).index(entry), copy.deepcopy(entry))
    listed: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return listed


def _raising(answer: Instead) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        raise Instead(answer.status, answer.body, answer.content_type, answer.headers)

    return act
