"""Contents of the pages of Imports: the state of an Import, its failures by reason, and its senders. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from counterfoil.resources import IMPORT_WINDOW_LABEL, EnvelopeEvent, Import, find_condition
from counterfoil.resources.imports import ImportSender, is_of_import, read_window_label


class ImportState(StrEnum):
    """State of an Import; also the name of its words."""

    COMPLETE = "complete"
    SUSPENDED = "suspended"
    STALLED = "stalled"
    """A person has to act."""
    RUNNING = "running"
    """It continues automatically, also if it waits."""


def state_of_import(imported: Import) -> ImportState:
    """Return the state of an Import."""
    if imported.status.completion_time is not None:
        return ImportState.COMPLETE
    if imported.spec.suspend:
        return ImportState.SUSPENDED
    stalled = find_condition(imported.status.conditions, "Stalled")
    is_stalled = stalled is not None and stalled.status == "True"
    return ImportState.STALLED if is_stalled else ImportState.RUNNING


@dataclass(frozen=True)
class ImportFailures:
    """Failed events of an Import, as far as they were read."""

    by_reason: tuple[tuple[str, int], ...] = ()
    """Reason and number, the most frequent first."""
    is_cut: bool = False
    """Whether there are more failed events than were read."""


def failures_of(imported: Import, events: Iterable[EnvelopeEvent], *, is_cut: bool) -> ImportFailures:
    """Return how many of the failed events have which reason. Those of an earlier Import of the same name are
    left out."""
    counts = Counter(each.status.cause for each in events if _is_of(imported, each))
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ImportFailures(tuple(ordered), is_cut)


def _is_of(imported: Import, event: EnvelopeEvent) -> bool:
    label = read_window_label(event.metadata.labels.get(IMPORT_WINDOW_LABEL, ""))
    return label is not None and is_of_import(label, imported)


@dataclass(frozen=True)
class ImportSenders:
    """Senders of an Import: how many were searched, and those with a problem."""

    total: int
    searched: int
    with_problem: tuple[ImportSender, ...]
    """Those that are not searched for a reason, and then those whose lists may be incomplete."""
    others: int
    """Number of further Senders with a problem."""
    with_most: tuple[ImportSender, ...] = ()
    """Those for whom eSAW listed the most envelopes."""
    found_by_others: int = 0
    """Number of envelopes that eSAW listed for the other Senders."""


def senders_of(imported: Import, rows: int) -> ImportSenders:
    """Return the Senders of an Import; at most ``rows`` of those with a problem, and of those with
    envelopes."""
    entries = imported.status.senders
    problems = sorted((each for each in entries if each.reason or each.doubt), key=lambda each: each.searched)
    with_envelopes = sorted((each for each in entries if each.found), key=lambda each: -each.found)
    return ImportSenders(
        total=len(entries),
        searched=sum(each.searched for each in entries),
        with_problem=tuple(problems[:rows]),
        others=max(0, len(problems) - rows),
        with_most=tuple(with_envelopes[:rows]),
        found_by_others=sum(each.found for each in with_envelopes[rows:]),
    )
