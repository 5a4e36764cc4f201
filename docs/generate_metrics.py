"""
Writes docs/reference/metrics.md from the metrics themselves: ``python docs/generate_metrics.py``.

A unit test holds the page against them.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry

from counterfoil.metrics import CallbackOutcome, MailKind, MailOutcome, Metrics, describe_metrics
from counterfoil.resources import Phase

PAGE = Path(__file__).parent / "reference" / "metrics.md"

HEAD = """\
<!-- Written by docs/generate_metrics.py from counterfoil/metrics.py; edit that. -->
# Metrics

Every process tells its own at `/metrics` on its private port. Durations are in seconds, sizes in bytes; a histogram `x` has the
series `x_bucket`, `x_count` and `x_sum`. Summed up over all controllers each event and each sender is counted once. No label
ever takes a value from outside, such as a path or a token. The usual `process_*` and `python_gc_*` come on top.

| Metric | Type | Labels | |
|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    metrics = describe_metrics(Metrics(CollectorRegistry(), version="0"))
    rows = "".join(
        f"| `{each.name}` | {each.type} | {', '.join(f'`{label}`' for label in each.labels)} | {each.help} |\n"
        for each in metrics
    )
    return (
        f"{HEAD}{rows}\n## Values of labels\n\n"
        f"- `outcome` of `counterfoil_callbacks_total`: {_listed(CallbackOutcome)}.\n"
        f"- `kind` and `outcome` of `counterfoil_notifications_total`: {_listed(MailKind)}; {_listed(MailOutcome)}.\n"
        f"- `phase`: {_listed(Phase)}; in `counterfoil_attempts_total` and `counterfoil_phase_seconds` only those that work.\n"
        "- `reason`: one of the [Reasons](reasons.md).\n"
    )


def _listed(values: type[CallbackOutcome | MailKind | MailOutcome | Phase]) -> str:
    return ", ".join(f"`{each.value}`" for each in values)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
