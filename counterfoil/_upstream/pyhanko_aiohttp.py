"""
pyHanko: ``import pyhanko.sign`` imports aiohttp, also in a process that asks nothing of the network.

Upstream: https://github.com/MatthiasValvekens/pyHanko, no issue yet. Versions: pyHanko up to 0.38, with
pyhanko-certvalidator up to 0.33. Its clients of time stamp authorities and of revocation lists name types of
aiohttp in their annotations. aiohttp is two fifths of the CPU that such a process needs to start, and 11 MiB.
"""

import sys
from types import ModuleType


def leave_aiohttp_out() -> None:
    """Let further imports of aiohttp return a module without content; does nothing if aiohttp is imported
    already."""
    sys.modules.setdefault("aiohttp", _EmptyModule("aiohttp"))


class _EmptyModule(ModuleType):
    """Each of its public attributes is a class that can do nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return type(name, (), {})
