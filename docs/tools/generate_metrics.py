"""
Generate docs/reference/metrics.md from counterfoil/metrics.py: ``python docs/tools/generate_metrics.py``.

A unit test compares the page with the metrics.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from controller.namespaces.status import NamespaceReason
from counterfoil.metrics import CallbackOutcome, MailKind, MailOutcome, Metrics
from counterfoil.resources import Phase
from counterfoil.resources.organization import MAX_UNLISTED_ACTIONS

PAGE = Path(__file__).parents[1] / "reference" / "metrics.md"

HEAD = """\
<!-- Written by docs/tools/generate_metrics.py from counterfoil/metrics.py; edit that. -->
# Metrics

Every process serves its metrics at `/metrics` on its private port. Durations are in seconds, sizes in bytes.
A histogram `x` has the series `x_bucket`, `x_count` and `x_sum`. The sum over all controllers counts each
event and each sender once. `namespace` is the namespace of the object, so scrape with `honor_labels: true`,
as the chart does. A request to the receiver for no served namespace counts in the release's. One label has a
value from a request: `action` of `counterfoil_unlisted_actions_total`, at most {actions} for each
organization. No label has a path, a token or a person. Each process also has the standard `process_*` and
`python_gc_*` metrics.

| Metric | Type | Labels | |
|---|---|---|---|
"""


class MetricDescription(NamedTuple):
    """One metric."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def describe_metrics() -> tuple[MetricDescription, ...]:
    """Return all metrics in the order of declaration."""
    metrics = Metrics(CollectorRegistry(), version="0")
    # prometheus_client keeps a counter's name without its suffix.
    of_namespace = {each.removesuffix("_total") for each in metrics.of_namespace}
    families = (each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase))
    return tuple(
        MetricDescription(
            name=f"{each._name}_total" if each._type == "counter" else each._name,
            type=each._type or "",
            labels=(("namespace",) if each._name in of_namespace else ()) + tuple(each._labelnames),
            help=each._documentation,
        )
        for each in families
    )


def page() -> str:
    """Return the text of the page."""
    rows = "".join(
        f"| `{each.name}` | {each.type} | {_code(each.labels)} | {each.help} |\n"
        for each in describe_metrics()
    )
    return (
        f"{HEAD.format(actions=MAX_UNLISTED_ACTIONS + 1)}{rows}\n## Values of labels\n\n"
        f"- `outcome` of `counterfoil_callbacks_total`: {_listed(CallbackOutcome)}.\n"
        f"- `kind` and `outcome` of `counterfoil_notifications_total`: {_listed(MailKind)}; "
        f"{_listed(MailOutcome)}.\n"
        f"- `phase`: {_listed(Phase)}; in `counterfoil_attempts_total` and `counterfoil_phase_seconds` only "
        "the phases in which the controller works.\n"
        f"- `reason` of `counterfoil_namespace_ready`: {_listed(NamespaceReason)}; of "
        "`counterfoil_namespace_restarts_total`: `NamespaceStuck`, `NamespaceBroken`.\n"
        "- `reason` of other metrics: one of the [Reasons](reasons.md).\n"
    )


def _listed(values: type[CallbackOutcome | MailKind | MailOutcome | NamespaceReason | Phase]) -> str:
    return _code(each.value for each in values)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in words)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
