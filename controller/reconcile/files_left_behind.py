"""
Files of an event that a change of ``spec.path`` or ``spec.archiveRef`` in mid-filing left at their old
places.

They are stored there without a manifest. Counterfoil does not remove them: the old place may be in another
Archive. The condition ``FilesLeftBehind`` names them for a person; it stays to the end of the event.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from controller.reconcile.outcomes import SideCondition
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.resources import EnvelopeEventStatus, FiledDocument, find_condition

CONDITION_TYPE: Final = "FilesLeftBehind"

MAX_LISTED_LENGTH: Final = 8192
"""Maximum characters of all locations in the message. The rest is counted."""

_LISTED: Final = re.compile(r"`([^`]+)`")


def files_left_behind(
    status: EnvelopeEventStatus, documents: Collection[FiledDocument], place: str
) -> SideCondition | None:
    """
    Return what lies elsewhere than at the present locations of the ``documents``, according to the status;
    None: never anything.

    A file that is not among them lies elsewhere if it is not in their folder, ``place``.
    """
    known = find_condition(status.conditions, CONDITION_TYPE)
    manifest = status.archive.manifest if status.archive is not None else None
    folder = manifest.removesuffix(MANIFEST_NAME) if manifest is not None else None
    locations, ids = {each.location for each in documents}, {each.file_id for each in documents}
    claimed = (
        each.location
        for each in status.documents
        if each.location
        and not _is_archived(each, folder)
        and (each.file_id in ids or not each.location.startswith(place))
    )
    earlier = _LISTED.findall(known.message) if known is not None else []
    left = [each for each in dict.fromkeys([*earlier, *claimed]) if each not in locations]
    if left:
        return SideCondition(CONDITION_TYPE, "True", "PlaceChanged", _message(left))
    if known is None:
        return None
    return SideCondition(CONDITION_TYPE, "False", "FilesListed", "All files lie at their present places.")


def _is_archived(document: FiledDocument, folder: str | None) -> bool:
    """Whether the file is in the folder of a manifest: evidence of that earlier state, which stays."""
    return folder is not None and (document.location or "").startswith(folder)


def _message(left: Iterable[str]) -> str:
    listed, length, more = [], 0, 0
    for each in left:
        length += len(each)
        if length > MAX_LISTED_LENGTH:
            more += 1
        else:
            listed.append(f"`{each}`")
    rest = f" and at {more} more places" if more else ""
    return (
        f"Files of an earlier attempt may lie without a manifest at {', '.join(listed)}{rest}, since "
        "spec.path or spec.archiveRef was changed meanwhile. Remove them there once the event has succeeded."
    )
