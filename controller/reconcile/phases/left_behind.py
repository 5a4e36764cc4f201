"""
Which files of earlier attempts lie at places that nothing leads to any more. Pure.

The condition asks a person to remove them. So it names only what is certainly elsewhere: in no present place
of a file, and in no Archive of a copy, since a copy may be made of them.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from controller.reconcile.context import ReconcileContext, RunContext
from controller.reconcile.outcomes import SideCondition
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.resources import EnvelopeEventStatus, FiledDocument, find_condition
from counterfoil.resources.archive import Archive, has_other_root
from counterfoil.resources.routes import copy_names

FILES_LEFT_BEHIND: Final = "FilesLeftBehind"
"""Condition with the files that a change of ``spec.path`` or of the Archive left at their old places:
they are there without a manifest. Counterfoil does not remove them, since the old place may be in another
Archive. What may be at its present place, or in a copy, by another name of that, is not among them. It stays
to the end of the event."""

MAX_LISTED_LENGTH: Final = 8192
"""Maximum characters of all locations in the message. The rest is counted."""

_LISTED: Final = re.compile(r"`([^`]+)` in Archive/([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)")


def files_left_behind(
    status: EnvelopeEventStatus, documents: Collection[FiledDocument], place: str, context: ReconcileContext
) -> SideCondition | None:
    """
    Return what certainly lies elsewhere than at the present locations of the ``documents`` in this Archive,
    according to the status; None: never anything.

    A file that is not among them lies elsewhere if it is not in their folder, ``place``.
    """
    known, archive = find_condition(status.conditions, FILES_LEFT_BEHIND), context.archive.name
    manifest = status.archive.manifest if status.archive is not None else None
    folder = manifest.removesuffix(MANIFEST_NAME) if manifest is not None else None
    locations, ids = {each.location for each in documents}, {each.file_id for each in documents}
    where = status.archive.ref.name if status.archive is not None else archive
    claimed = (
        (each.location, where)
        for each in status.documents
        if each.location
        and not _is_archived(each, folder)
        and (each.file_id in ids or where != archive or not each.location.startswith(place))
    )
    earlier = listed_places(known.message) if known is not None else []
    left = [
        (location, its_archive)
        for location, its_archive in dict.fromkeys([*earlier, *claimed])
        if location not in locations
        and _is_certain(location, its_archive, context)
        and not _may_be_copy(its_archive, status, context)
    ]
    return None if known is None and not left else _condition(left)


def without_copies(status: EnvelopeEventStatus, context: RunContext) -> SideCondition | None:
    """Return the condition without the places in Archives of copies, perhaps of new ones; None: it names
    none."""
    known = find_condition(status.conditions, FILES_LEFT_BEHIND)
    listed = listed_places(known.message) if known is not None and known.status == "True" else []
    left = [each for each in listed if not _may_be_copy(each[1], status, context)]
    return _condition(left) if len(left) < len(listed) else None


def _condition(left: Collection[tuple[str, str]]) -> SideCondition:
    if left:
        return SideCondition(FILES_LEFT_BEHIND, "True", "PlaceChanged", left_behind_message(left))
    return SideCondition(
        FILES_LEFT_BEHIND, "False", "FilesListed", "No file is known to lie at an earlier place."
    )


def _is_certain(location: str, archive: str, context: RunContext) -> bool:
    """
    Whether a location is certainly in the root of the Archive of this name, and that root is the present one,
    or certainly another one.

    The message asks a person to remove what is there. By another name or address it may be the present
    place, and the file the only copy.
    """
    present, its_archive = context.archive, _find(archive, context)
    if its_archive is None or its_archive.status.root is None:
        return False
    if not location.startswith(its_archive.status.root.location):
        return False
    return its_archive is present or has_other_root(its_archive, present)


def _may_be_copy(archive: str, status: EnvelopeEventStatus, context: RunContext) -> bool:
    """Whether the Archive of this name is that of a copy, or may be so by another name."""
    names = {*copy_names(context.organization.spec), *(each.ref.name for each in status.copies)}
    if archive in names:
        return True
    its_archive = _find(archive, context)
    copies = [_find(each, context) for each in names]
    return any(
        its_archive is None or each is None or not has_other_root(its_archive, each) for each in copies
    )


def _find(archive: str, context: RunContext) -> Archive | None:
    # The present one as this run uses it.
    return context.archive if archive == context.archive.name else context.find_archive(archive)


def _is_archived(document: FiledDocument, folder: str | None) -> bool:
    """Whether the file is in the folder of a manifest: evidence of that earlier state, which stays."""
    return folder is not None and (document.location or "").startswith(folder)


def listed_places(message: str) -> list[tuple[str, str]]:
    """Return the places that ``left_behind_message`` lists: locations, with the names of their Archives."""
    return _LISTED.findall(message)


def left_behind_message(left: Iterable[tuple[str, str]]) -> str:
    """
    Return where files were left, by location and name of the Archive.

    A location with a backtick is only counted: what others name must not end an entry, since a person removes
    what is listed. So is what exceeds the length.
    """
    listed, length, more = [], 0, 0
    for location, archive in left:
        length += len(location)
        if length > MAX_LISTED_LENGTH or "`" in location:
            more += 1
        else:
            listed.append(f"`{location}` in Archive/{archive}")
    counted = f"{more} {'more ' if listed else ''}place{'' if more == 1 else 's'}"
    places = " and at ".join(filter(None, (", ".join(listed), counted if more else "")))
    return (
        f"Files of an earlier attempt may lie without a manifest at {places}, since "
        "spec.path or spec.archiveRef was changed meanwhile. Remove them there once the event has succeeded."
    )
