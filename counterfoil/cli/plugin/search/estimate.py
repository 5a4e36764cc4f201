"""The estimate of a dry run, and the command that asks for missing keys, in lines for people. Pure."""

from collections.abc import Iterable

from counterfoil.cli.plugin.exit_status import counted, printable
from counterfoil.i18n.import_estimate import estimate_of, in_largest_unit
from counterfoil.i18n.key_advice import ask_command, askable_senders
from counterfoil.i18n.sizes import readable_bytes
from counterfoil.resources import Import, Organization, Sender


def estimate_lines(imported: Import, organization: Organization) -> list[str]:
    """Return the estimate for the envelopes that a dry run counted so far and that it would archive."""
    estimate = estimate_of(imported, organization)
    if estimate is None:
        return []
    sample, lines = estimate.sample, [f"to import: {counted(estimate.envelopes, 'envelope')}"]
    if estimate.files is not None:
        size = readable_bytes(estimate.bytes)
        lines[0] += f", about {counted(estimate.files, 'file')} and {size}, by a sample of {sample.envelopes}"
    elif not imported.spec.sample_size:
        lines[0] += ". Their size is unknown, since spec.sampleSize is 0"
    else:
        lines[0] += ". Their size is unknown"
    if sample.unreadable:
        lines.append(f"{counted(sample.unreadable, 'envelope')} of the sample could not be measured")
    if estimate.duration:
        number, unit = in_largest_unit(estimate.duration)
        lines.append(f"duration: at least {counted(number, unit)}, by the limits of the Organization")
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
