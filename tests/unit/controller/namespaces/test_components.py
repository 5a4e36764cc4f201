"""The wiring of a namespace: all components are built, and one process alone does what has no shard."""

from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.namespaces.components import Components, build
from controller.reconcile.signature_policy import SignatureChecker
from controller.resync.garbage_collector import GarbageCollector
from controller.scheduling.process_slots import ProcessSlots
from counterfoil.metrics import Metrics
from counterfoil.resources.naming import UNSHARDED_WORK
from counterfoil.settings import ControllerSettings, load
from tests.support.builders import AClock
from tests.support.fakes.esaw import FakeEsawClient, FakeEsawClients
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import held_shards
from tests.support.fakes.reconcile_context import FakeSignatureCheck, FakeTagWorkers

PROCESSES = 2
OWNER = next(each for each in range(PROCESSES) if held_shards(each, of=PROCESSES).owns(*UNSHARDED_WORK))


def an_app(shard: int) -> Components:
    return build(
        load(ControllerSettings, [], {}),
        InMemoryKubeClient(),
        FakeEsawClients(FakeEsawClient()),
        Metrics(CollectorRegistry(), version="test"),
        held_shards(shard, of=PROCESSES),
        clock=AClock(),
        slots=ProcessSlots(),
        own_namespace="tests",
        sealing=None,
        signature_checker=SignatureChecker(FakeSignatureCheck(), None),
        tag_workers=FakeTagWorkers(),
    )


def components(app: Components) -> list[Any]:
    """Return the components that run in the background."""
    runs: list[Any] = [each.func if isinstance(each, partial) else each for each in app.background]
    return [each.__self__ for each in runs]


@pytest.mark.parametrize(("shard", "is_owner"), [(OWNER, True), (1 - OWNER, False)])
async def test_one_process_of_all_collects_garbage_and_sends_mail(shard: int, is_owner: bool) -> None:
    app = an_app(shard)
    assert any(isinstance(each, GarbageCollector) for each in components(app)) is is_owner
    assert app.notifier.sends_mail is is_owner


async def test_each_component_that_ends_gently_runs_in_the_background() -> None:
    app = an_app(OWNER)
    running = {id(each) for each in components(app)}
    assert running >= {id(each) for each in (app.workqueue, app.notifier, app.notice_delivery)}
