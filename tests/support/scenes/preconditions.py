"""All that an event needs before its phases, in memory."""

from typing import Any

from controller.reconcile.outcomes import Outcome
from controller.reconcile.preconditions import Admitted
from counterfoil.resources import (
    EnvelopeEvent,
    Organization,
    Phase,
    Sender,
)
from tests.support.builders import (
    a_sender,
    an_event,
    an_organization,
    known_to_work,
)
from tests.support.fakes.reconcile_context import (
    a_probed_archive,
)
from tests.support.scenes.controller_parts import ControllerParts


class PreconditionsScene(ControllerParts):
    """Everything that an event needs, to be taken away piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        for each in (an_organization(), known_to_work(a_sender()), a_probed_archive()):
            self.cache.update(each)
        self.put_key()
        self.preconditions = self.new_preconditions()

    def organization(self, **spec: Any) -> Organization:
        changed = an_organization(version=2, **spec)
        self.cache.organizations.put(changed)
        return changed

    async def sender(self, event: EnvelopeEvent | None = None) -> Sender | Outcome:
        organization = self.cache.organizations.get("acme")
        assert organization is not None
        return await self.preconditions.sender(event or an_event().build(), organization)

    async def prepare(self, reason: str | None = None, *, attempts: int = 10) -> Admitted | Outcome:
        builder = an_event()
        if reason is not None:
            builder = builder.in_phase(Phase.ARCHIVING, reason).status(attempts=attempts)
        event, organization = builder.build(), self.cache.organizations.get("acme")
        sender = self.cache.senders.get("anna")
        assert organization is not None
        assert sender is not None
        return await self.preconditions.prepare(event, organization, sender)
