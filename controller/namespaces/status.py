"""
Whether each namespace can be served, for people: a metric, a line in the log and a Kubernetes Event.

The Event is about the pod of this process, in the release's namespace: in a namespace that does not exist, or
in which the rights are missing, no Event can be written. Each change is reported once, not each attempt.
"""

import logging
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from controller.event_recorder import EventRecorder, EventType
from counterfoil.kube.errors import ApiError, Forbidden
from counterfoil.metrics import Metrics

_log = logging.getLogger("controller")


class NamespaceReason(StrEnum):
    """Why a namespace is served, or not: a label of ``counterfoil_namespace_ready`` and reason of Events."""

    SERVING = "Serving"
    STARTING = "Starting"
    """Its objects are read for the first time."""
    FORBIDDEN = "NamespaceForbidden"
    """It does not exist, is being deleted, or the Role there is missing."""
    UNAVAILABLE = "NamespaceUnavailable"
    """A CustomResourceDefinition is missing without which nothing works. All namespaces share it."""
    INCOMPLETE = "NamespaceIncomplete"
    """The CustomResourceDefinition of Imports, the right to list them, or that to store the status of a kind
    is missing: only these stand still."""
    STUCK = "NamespaceStuck"
    """A watch is silent, or an event is overdue; the work there starts again."""
    BROKEN = "NamespaceBroken"
    """A component ended with an error; the work there starts again."""


_RESTARTING = frozenset({NamespaceReason.STUCK, NamespaceReason.BROKEN})
"""The reasons with which the work starts again."""

_OF_KINDS = frozenset({NamespaceReason.UNAVAILABLE, NamespaceReason.INCOMPLETE})
"""The reasons about kinds. When one kind is there, the next one may be missing."""

_NOT_STUCK = _OF_KINDS | {NamespaceReason.BROKEN}

_APPLY = "Apply the CustomResourceDefinitions of this version."


@dataclass(frozen=True)
class NamespaceProblem:
    """A problem that keeps a namespace from being served."""

    reason: NamespaceReason
    message: str


def problem_of(namespace: str, error: ApiError) -> NamespaceProblem:
    """Return the problem that a 403 or 404 shows to a list of objects without which nothing works."""
    if isinstance(error, Forbidden):
        return NamespaceProblem(
            NamespaceReason.FORBIDDEN,
            f"Namespace {namespace} is not served: it does not exist, is being deleted, or the Role and the "
            f"RoleBinding of the controller are missing there ({error}). Create it and run helm upgrade, or "
            "remove it from the list.",
        )
    return NamespaceProblem(
        NamespaceReason.UNAVAILABLE,
        f"Namespace {namespace} is not served: {error}. {_APPLY}",
    )


def problem_of_imports(namespace: str, error: ApiError) -> NamespaceProblem:
    """Return the problem that a 403 or 404 to a list of the Imports shows."""
    advice = "Give the Role of the controller there the chart's rights to imports.counterfoil.dev."
    return NamespaceProblem(
        NamespaceReason.INCOMPLETE,
        f"The Imports in namespace {namespace} stand still: {error}. All other work continues. "
        f"{advice if isinstance(error, Forbidden) else _APPLY}",
    )


def problem_of_statuses(namespace: str, refused: Collection[str]) -> NamespaceProblem:
    """Return the problem of a missing right to store the statuses of these kinds (plurals)."""
    names = ", ".join(f"{each}/status" for each in refused)
    return NamespaceProblem(
        NamespaceReason.INCOMPLETE,
        f"In namespace {namespace} the controller may not patch {names}. These objects stand still, and no "
        "status tells it. Give the Role of the controller there the chart's rights to them.",
    )


@dataclass
class NamespaceStatus:
    """Reports the changes of each namespace."""

    metrics: Metrics
    """Those of the process."""
    event_recorder: EventRecorder
    """That of the release's namespace."""
    _problems: dict[str, NamespaceProblem | None] = field(default_factory=dict)

    def set_starting(self, namespace: str) -> None:
        """The work in a namespace begins. After an end by an error the reason of that stays."""
        for reason in _RESTARTING:
            self.metrics.namespace_restarts.labels(namespace, reason.value)
        if not self.is_restarting(namespace):
            self.metrics.set_namespace_ready(namespace, NamespaceReason.STARTING, is_ready=False)

    def set_serving(self, namespace: str) -> None:
        """A namespace is served."""
        self.metrics.set_namespace_ready(namespace, NamespaceReason.SERVING, is_ready=True)
        if self._problems.get(namespace) is not None:
            _log.info("namespace %s is served again", namespace)
            note = f"Namespace {namespace} is served again."
            self._record(namespace, NamespaceReason.SERVING, note)
        self._problems[namespace] = None

    def set_problem(self, namespace: str, problem: NamespaceProblem) -> None:
        """A namespace is not served."""
        self.metrics.set_namespace_ready(namespace, problem.reason, is_ready=False)
        known = self._problems.get(namespace)
        self._problems[namespace] = problem
        is_other_kind = problem.reason in _OF_KINDS and problem != known
        if known is None or known.reason is not problem.reason or is_other_kind:
            _log.warning("%s", problem.message, extra={"namespace": namespace, "reason": problem.reason})
            self._record(namespace, problem.reason, problem.message)

    def set_restarting(self, namespace: str, problem: NamespaceProblem) -> None:
        """The work in a namespace ended by an error, and starts again."""
        self.metrics.namespace_restarts.labels(namespace, problem.reason.value).inc()
        self.set_problem(namespace, problem)

    def is_restarting(self, namespace: str) -> bool:
        """Whether the last problem of a namespace, which is not solved, was an end of its work."""
        problem = self._problems.get(namespace)
        return problem is not None and problem.reason in _RESTARTING

    def is_stuck(self, namespace: str) -> bool:
        """Whether the work in a namespace did not get on, or none is possible there. A missing definition is
        no reason: where it stops all work, it does so in each namespace."""
        problem = self._problems.get(namespace)
        return problem is not None and problem.reason not in _NOT_STUCK

    def forget_others(self, namespaces: Collection[str]) -> None:
        """Only these are in the list; others may have left it while this process did not follow the list."""
        for namespace in set(self.metrics.namespaces) - set(namespaces):
            self.forget(namespace)

    def forget(self, namespace: str) -> None:
        """A namespace is no longer in the list."""
        self._problems.pop(namespace, None)
        self.metrics.remove_namespace(namespace)

    def _record(self, namespace: str, reason: NamespaceReason, note: str) -> None:
        type_: EventType = "Normal" if reason is NamespaceReason.SERVING else "Warning"
        pod = os.environ.get("HOSTNAME") or socket.gethostname()
        self.event_recorder.record_about_pod(pod, reason, note, type_=type_, namespace=namespace)
