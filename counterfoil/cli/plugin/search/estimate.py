"""
Estimates for a dry run of an Import: number and size of its files, its duration, and missing keys. Pure.

Sizes are those of a sample: envelopes that the Organization archived already. The duration is the longest
that a configured limit causes. eSignAnyWhere and the archive may need longer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from counterfoil.cli.plugin.exit_status import counted, printable
from counterfoil.i18n.key_advice import ask_command, askable_senders
from counterfoil.i18n.sizes import readable_bytes
from counterfoil.resources import EnvelopeEvent, Import, Organization, Sender
from counterfoil.resources.imports import ImportHours

SAMPLE = 100
"""Number of archived envelopes of the sample."""

REQUESTS_BESIDE_FILES = 6
"""Requests to eSAW for one envelope, in addition to one for each file (docs/performance.md)."""

STORED_EVENTS = 50_000
"""Number of EnvelopeEvents of Imports at which they wait, by the default quota of the chart: half of it."""


@dataclass(frozen=True)
class SampleMeans:
    """Means of the archived envelopes of a sample."""

    envelopes: int
    files: float
    """Mean number of files of an envelope."""
    bytes: float
    """Mean size of an envelope in bytes."""


def means_of(events: Iterable[EnvelopeEvent]) -> SampleMeans | None:
    """Return the means of the archived ones of these events; None without any."""
    archived = [each.status.documents for each in events if each.status.documents]
    if not archived:
        return None
    files = sum(len(documents) for documents in archived)
    size = sum(each.size or 0 for documents in archived for each in documents)
    return SampleMeans(len(archived), files / len(archived), size / len(archived))


def shortest_duration(
    envelopes: int, organization: Organization, means: SampleMeans | None, hours: ImportHours | None
) -> timedelta:
    """Return how long the Import takes at least by the limits that are configured; zero for none."""
    durations = [timedelta()]
    rate = organization.spec.limits.requests_per_minute
    if rate is not None:
        files = means.files if means is not None else 1.0
        working = timedelta(minutes=envelopes * (REQUESTS_BESIDE_FILES + files) / rate)
        durations.append(working * (24 / hours_per_day(hours)))
    # Finished events are removed after this time, at any hour, and make room for others.
    rounds = max(0, envelopes - 1) // STORED_EVENTS
    durations.append(rounds * organization.spec.ttl.imported)
    return max(durations)


def hours_per_day(hours: ImportHours | None) -> float:
    """Return how many hours of a day the Import may create events."""
    if hours is None:
        return 24.0
    begin, end = _time_of_day(hours.from_), _time_of_day(hours.to)
    return ((end - begin) % timedelta(days=1)) / timedelta(hours=1)


def _time_of_day(text: str) -> timedelta:
    hour, minute = text.split(":")
    return timedelta(hours=int(hour), minutes=int(minute))


def estimate_lines(
    imported: Import, organization: Organization, events: Iterable[EnvelopeEvent]
) -> list[str]:
    """Return the estimate for the envelopes that a dry run counted so far and that it would archive."""
    status = imported.status
    envelopes = status.found - status.known - status.refused + status.reopened
    if envelopes <= 0:
        return []
    means = means_of(events)
    lines = [f"to import: {counted(envelopes, 'envelope')}"]
    if means is None:
        lines[0] += ". Their size is unknown until an envelope of the Organization is archived"
    else:
        size = readable_bytes(round(envelopes * means.bytes))
        sample = counted(means.envelopes, "archived envelope")
        lines[0] += f", about {math.ceil(envelopes * means.files)} files and {size}, by {sample}"
    duration = shortest_duration(envelopes, organization, means, imported.spec.hours)
    if duration:
        lines.append(f"duration: at least {readable_duration(duration)}, by the limits of the Organization")
    else:
        lines.append(
            "duration: limited by eSignAnyWhere and the archive; the Organization has no requestsPerMinute"
        )
    return lines


def ask_lines(
    imported: Import, organization: Organization | None, senders: Iterable[Sender], namespace: str
) -> list[str]:
    """Return the command that asks Senders without a key for their consent, in lines; nothing if no mail can
    ask one of them."""
    lacking = imported.status.lacking_senders
    asked = askable_senders(lacking, senders, organization)
    if not asked:
        return []
    ask = f"ask {len(asked)} of {counted(len(lacking), 'Sender')} for consent by mail:"
    return [ask, f"  {printable(ask_command(asked, namespace))}"]


def readable_duration(duration: timedelta) -> str:
    """Write a duration for people, in its largest unit."""
    for unit, size in (("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if duration >= 2 * size:
            return counted(math.ceil(duration / size), unit)
    return counted(max(1, math.ceil(duration / timedelta(minutes=1))), "minute")
