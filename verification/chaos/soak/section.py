"""The section of docs/reliability.md about the soak test: from the longest of the records."""

from collections.abc import Mapping, Sequence
from typing import Final

from verification.chaos.soak.flatness import MIB, Growth
from verification.chaos.soak.records import SoakRecord
from verification.chaos.tables import table

BEGIN: Final = "<!-- The soak test's section begins. Written by `python -m verification.chaos report`. -->"
END: Final = "<!-- The soak test's section ends. -->"


def section(records: Sequence[SoakRecord]) -> str:
    """Return the section in Markdown, without its markers; of several longest runs the newest one counts."""
    if not records:
        return "There is no record yet."
    run = max(reversed(records), key=lambda each: each.minutes)
    return "\n".join(
        [
            f"The longest run had {run.minutes:g} minutes of load (seed {run.seed}, archive `{run.archive}`, "
            f"commit `{run.commit}`).",
            f"{run.envelopes:,} envelopes ended in eSAW. Callbacks about {run.answered:,} envelopes were "
            "answered 200, with those about envelopes that eSAW does not know.",
            f"{run.removed:,} of {sum(run.outcomes.values()):,} finished events were removed during the run. "
            f"{run.backlog:,} events had not ended when the load ended.",
            f"{sum(run.struck.values()):,} faults struck, and {run.mails:,} mails arrived. The machine used "
            f"{run.cpu:.0f} % of its processors.",
            f"Violations: {len(run.violations)}. Measures that grew: {_grown(run)} of {len(run.growths)}. "
            f"Measures with too few samples: {len(run.unproven)}.",
            "",
            *_items(run),
            *table(
                (
                    "Process",
                    "Measure",
                    "Second quarter",
                    "Last quarter",
                    "Maximum",
                    "Change per hour",
                    "Flat",
                ),
                map(_row, run.growths),
            ),
            *_counts("Outcome of an event", "Events", run.outcomes),
            *_counts("Request that no envelope caused, and its answer", "Requests", run.requests),
            *_counts("Fault", "Number that struck", run.struck),
        ]
    )


def _items(run: SoakRecord) -> list[str]:
    items = [*run.violations, *(f"too few samples: {each}" for each in run.unproven)]
    return [*(f"- {each}" for each in items), ""] if items else []


def _grown(run: SoakRecord) -> int:
    return sum(not each.is_flat for each in run.growths)


def _row(growth: Growth) -> tuple[str, ...]:
    is_memory = growth.measure.endswith("memory")
    values = (growth.early, growth.late, growth.highest)
    texts = [f"{each / MIB:.1f} MiB" if is_memory else f"{each:g}" for each in values]
    slope = f"{growth.slope / MIB:+.1f} MiB" if is_memory else f"{growth.slope:+.1f}"
    return (f"`{growth.process}`", growth.measure, *texts, slope, "yes" if growth.is_flat else "**no**")


def _counts(what: str, number: str, counts: Mapping[str, int]) -> list[str]:
    return table((what, number), ((f"`{name}`", f"{counts[name]:,}") for name in sorted(counts)))
