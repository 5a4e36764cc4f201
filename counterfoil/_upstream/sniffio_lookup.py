"""
httpcore: a failed import of sniffio at each lock.

Upstream: https://github.com/encode/httpcore/discussions/1102, fixed by
https://github.com/encode/httpcore/pull/1103. Versions: httpcore up to 1.0.9, where sniffio is not installed
(anyio 4.11 and newer do not depend on it).

httpcore imports sniffio at each lock, six times per request. Python does not remember a failed import, so
each one searches all of ``sys.path``: a seventh of the CPU of archiving an envelope. httpcore needs sniffio
for trio only.
"""

import importlib.util
import sys
from types import ModuleType
from typing import cast


def disable_sniffio_lookup() -> None:
    """Make further imports of sniffio fail at once if sniffio is not installed."""
    if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = cast("ModuleType", None)
