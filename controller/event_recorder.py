"""
Post Kubernetes Events on the objects, for people who read ``kubectl describe``.

Only transitions are posted, never successes: the conditions show a success, and each Event is a separate
write (docs/decisions/0003). Posting is best effort and blocks no caller; a failure is logged.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.resources import API_VERSION, CONTROLLER_REPORTER, Resource

EventType = Literal["Normal", "Warning"]

_log = logging.getLogger(__name__)

MAX_NOTE_BYTES = 1000
"""Maximum size of a note; the API server accepts 1,024 bytes."""

MAX_QUEUED_EVENTS = 1000
"""Maximum number of queued Events; further ones are dropped with a log line, since nothing depends on
them."""


@dataclass
class EventRecorder:
    """Posts Kubernetes Events one after the other in the background."""

    kube: KubeClient
    clock: Clock
    _queue: asyncio.Queue[dict[str, object]] = field(
        default_factory=partial(asyncio.Queue, MAX_QUEUED_EVENTS)
    )

    def record(
        self,
        regarding: Resource,
        reason: str,
        note: str,
        *,
        type_: EventType = "Normal",
        action: str = "Process",
    ) -> None:
        """Queue an Event about an object."""
        reference = {
            "apiVersion": API_VERSION,
            "kind": regarding.KIND,
            "name": regarding.name,
            "uid": regarding.uid,
        }
        self._enqueue(self._body(reference, reason, note, type_=type_, action=action))

    def record_about_pod(self, pod: str, reason: str, note: str, *, type_: EventType, namespace: str) -> None:
        """Queue an Event about the pod of this process, which concerns its work in another namespace."""
        reference = {"apiVersion": "v1", "kind": "Pod", "name": pod}
        body = self._body(reference, reason, note, type_=type_, action="Serve")
        self._enqueue(body | {"related": {"apiVersion": "v1", "kind": "Namespace", "name": namespace}})

    def _enqueue(self, body: dict[str, object]) -> None:
        try:
            self._queue.put_nowait(body)
        except asyncio.QueueFull:
            _log.warning("too many Kubernetes Events wait; one was dropped", extra={"reason": body["reason"]})

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            body = await self._queue.get()
            try:
                await self.kube.create_event(body)
            except ApiError as problem:
                _log.warning("a Kubernetes Event could not be posted: %s", problem)

    def _body(
        self, regarding: Mapping[str, str], reason: str, note: str, *, type_: str, action: str
    ) -> dict[str, object]:
        now = self.clock.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{regarding['name']}.{secrets.token_hex(8)}",
                "namespace": self.kube.namespace,
            },
            "eventTime": now,
            "reportingController": CONTROLLER_REPORTER,
            "reportingInstance": os.environ.get("HOSTNAME", "controller")[:128],
            "action": action,
            "reason": reason[:128],
            "type": type_,
            "note": note.encode()[:MAX_NOTE_BYTES].decode(errors="ignore"),
            "regarding": {**regarding, "namespace": self.kube.namespace},
        }
