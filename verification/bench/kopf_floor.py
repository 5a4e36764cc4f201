"""
The floor of bench (b): an operator of kopf that makes the controller's writes and does nothing else.

Each handler call moves the phase one step by kopf's own patch, so an event costs three status writes and four
reports of the watch, as with the controller. ``python -m verification.bench.kopf_floor`` runs it with the
kubeconfig of the environment until SIGTERM, and prints a line when it starts to watch.
"""

import os
from typing import Any, Final

import kopf

from counterfoil.resources import GROUP, VERSION, EnvelopeEvent, Phase

NAMESPACE_VARIABLE: Final = "BENCH_NAMESPACE"
STARTED: Final = "kopf started"

STEPS: Final = {
    Phase.PENDING: Phase.COLLECTING,
    Phase.COLLECTING: Phase.ARCHIVING,
    Phase.ARCHIVING: Phase.SUCCEEDED,
}
"""The phase after each phase."""


@kopf.on.login()
def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_kubeconfig(**arguments)


@kopf.on.startup()
def _started(**_: Any) -> None:
    print(STARTED, flush=True)


@kopf.on.event(GROUP, VERSION, EnvelopeEvent.PLURAL)
async def _step(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    phase = body.status.get("phase", Phase.PENDING)
    if (following := STEPS.get(phase)) is not None:
        patch.status["phase"] = following


if __name__ == "__main__":
    kopf.run(namespaces=[os.environ[NAMESPACE_VARIABLE]], standalone=True)
