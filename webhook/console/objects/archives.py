"""The target of an Archive, as its page shows it: where files go, and never a credential. Pure."""

from typing import Final

from counterfoil.resources import Archive

_SHOWN: Final = (
    "bucket",
    "container",
    "url",
    "host",
    "port",
    "root",
    "root_folder",
    "prefix",
    "region",
    "endpoint",
)
"""Settings that say where files go. The settings of a kind of somebody else may hold a secret: none of them
is shown."""


def kind_of(archive: Archive) -> str:
    """Return the kind of an archive; empty for an object that has none or several."""
    try:
        return archive.spec.kind
    except ValueError:
        return ""


def target_of(archive: Archive) -> tuple[tuple[str, str], ...]:
    """Return the settings that say where files go: pairs of name and value."""
    if not kind_of(archive):
        return ()
    values = ((name, getattr(archive.spec.settings, name, None)) for name in _SHOWN)
    return tuple((name, str(value)) for name, value in values if value)
