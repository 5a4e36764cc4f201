"""Two Senders of one Organization: anna's key shows the envelope of the event, and dora's does not."""

from pathlib import Path
from typing import Any

from controller.scheduling.due import due_time
from counterfoil.esaw import ApiToken, EsawUserClient, HttpStatusError
from counterfoil.resources import LISTED_BY_LABEL, SENDER_LABEL, EnvelopeEvent, Phase
from tests.support.builders import DORA, ORIGIN, a_sender, an_event, known_to_work
from tests.support.fakes.esaw import FakeEsawClient
from tests.support.fakes.reconcile_context import FakeEsawUserClient, missing
from tests.support.scenes.reconciler import ReconcilerScene

OTHER_KEY, NEW_KEY = "d" * 66, "e" * 66
FORBIDDEN = HttpStatusError(403, "ERR0403")


class EsawOfTwo(FakeEsawClient):
    """An eSAW that shows its envelope to anna, and not to dora."""

    def __init__(self) -> None:
        super().__init__()
        self.anna, self.dora = FakeEsawUserClient(), FakeEsawUserClient()
        self.dora.user_id, self.dora.remembered = DORA, False
        for operation in ("envelope", "configuration", "files", "delete"):
            self.dora.but(operation, missing())

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return self.dora if token == ApiToken.parse(OTHER_KEY, ORIGIN) else self.anna


class TwoKeysScene(ReconcilerScene):
    """An event whose envelope anna's key shows; dora is the default Sender, and her key works."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        self.two = EsawOfTwo()
        builder = an_event().labelled(LISTED_BY_LABEL, "anna")
        settings = {"defaultSenderRef": {"name": "dora"}, "cleanup": {"policy": "Delete"}, **spec}
        super().__init__(folder, builder, esaw=self.two, **settings)
        self.put_key("dora", OTHER_KEY)
        self.observe(known_to_work(a_sender("dora"), OTHER_KEY))

    def refuse(self) -> None:
        """Let eSAW refuse anna's key from now on."""
        for operation in ("whoami", "envelope", "configuration", "files", "history", "download file-1"):
            self.two.anna.but(operation, HttpStatusError(401, "ERR0401"))
        self.kube.put(refused := a_sender(authorized="False", version=50))
        self.cache.update(refused)

    def consent(self) -> None:
        """Let anna give another key."""
        self.two.anna.problems.clear()
        self.put_key("anna", NEW_KEY)
        self.observe(known_to_work(a_sender(version=1000), NEW_KEY))

    def forget(self) -> None:
        """Let this process look up again what it knew, as one that starts."""
        self.cache.sender_of.clear()
        self.cache.recorded_senders.clear()

    async def run(self, times: int = 1) -> EnvelopeEvent:
        """Run the event, each time when it is due; not before an object changes if it never is."""
        for _ in range(times):
            event = self.newest()
            due = due_time(event, self.cache, self.clock.now())
            if event.status.phase.is_final or due is None:
                break
            self.clock.advance(seconds=max(0.0, (due - self.clock.now()).total_seconds()) + 1)
            self.cache.update(await self.reconcile())
        return self.newest()

    def stop_showing(self) -> None:
        """Let eSAW not show the envelope to anna's key from now on."""
        self.two.anna.remembered = False
        for operation in ("envelope", "configuration", "files", "download file-1"):
            self.two.anna.but(operation, missing())

    def show_to_dora(self) -> None:
        """Let eSAW show the envelope to dora's key."""
        self.two.dora.problems.clear()
        self.two.dora.remembered = True

    def waits_for_anna(self) -> bool:
        event = self.newest()
        reader = event.metadata.labels[SENDER_LABEL], event.status.phase
        due = due_time(event, self.cache, self.clock.now())
        return (*reader, due) == ("anna", Phase.AWAITING_CONSENT, None)
