"""Sizes for people, in the console and in the plugin."""

from typing import Final

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def readable_bytes(count: int | None) -> str:
    """Write a number of bytes for people."""
    if count is None:
        return "-"
    unit = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{count / 1024**unit:.1f} {_UNITS[unit]}" if unit else f"{count} {_UNITS[0]}"
