"""
Reading what lies in an archive: whole files only to count and hash them, small ones to see what is in them.
"""

from collections.abc import AsyncIterable
from contextlib import aclosing

from counterfoil.archives.door import Absent, Door, Vouched
from counterfoil.archives.manifest import MANIFEST_LIMIT, ManifestDamaged
from counterfoil.archives.streams import Keeper, Tally, exhaust, tallied


async def stored(door: Door, name: str, keeper: Keeper | None = None) -> tuple[int, str] | None:
    """Read what lies under a name; return its size and SHA-256, None when nothing is there."""
    try:
        async with aclosing(door.read(name)) as stream:
            if keeper is None:
                return await drained(stream)
            async with aclosing(keeper.through(stream)) as kept:
                return await drained(kept)
    except Absent:
        return None
    except Vouched as word:
        if keeper is not None:
            keeper.give_up()
        return word.size, word.sha256


async def drained(stream: AsyncIterable[bytes]) -> tuple[int, str]:
    """Read a stream to its end without keeping it; return its size and SHA-256."""
    tally = Tally()
    async with aclosing(tallied(stream, tally)) as counted:
        await exhaust(counted)
    return tally.size, tally.sha256


async def small(door: Door, name: str) -> bytes:
    """Read a small file whole. Raises ``Absent``, also if it is not given back; ``ManifestDamaged`` when it is not small."""
    content = bytearray()
    try:
        async with aclosing(door.read(name)) as stream:
            async for chunk in stream:
                content += chunk
                if len(content) > MANIFEST_LIMIT:
                    raise ManifestDamaged("it is longer than 16 MiB")
    except Vouched:
        raise Absent from None
    return bytes(content)
