"""
``python -m controller``: settings in, everything wired together, then work until SIGTERM.

On SIGTERM nothing new is started, what runs may come to its next safe point within the grace period (a mail under way: to
its mark), then the watches end. Whatever is cut off is in the events' status and goes on after the start (rule 10).
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

import kopf

from controller.announce import Announcer
from controller.beginning import Beginning
from controller.clerk import Clerk
from controller.doors import Doors
from controller.driver import Driver
from controller.gaps import Gaps
from controller.keyring import Keyring
from controller.liveness import Liveness
from controller.manager import Manager
from controller.notary import Notary
from controller.notify.dispatch import Dispatch
from controller.notify.due import Patience
from controller.notify.notes import Notes
from controller.notify.notifier import Notifier
from controller.notify.postman import SmtpPostman
from controller.office import Office
from controller.organizations import Organizations
from controller.pulse import Pulse
from controller.reaper import Reaper
from controller.reception import Reception
from controller.reopener import Reopener
from controller.requests import Requests
from controller.secrets import Secrets
from controller.sweep import Sweeper
from controller.watches import UNFINISHED, WATCHED, handlers, operator_settings, shard_labels
from counterfoil import __version__, tracing
from counterfoil.allocator import keep_blocks
from counterfoil.archives.seal import Sealer, SealKeyInvalid
from counterfoil.clock import Clock, WallClock
from counterfoil.cluster import Cluster, connect
from counterfoil.esaw.client import make_http
from counterfoil.esaw.clients import Esaws
from counterfoil.health import private_server
from counterfoil.logs import configure
from counterfoil.loops import Loop
from counterfoil.metrics import Metrics, new_registry
from counterfoil.resources import EnvelopeEvent, Sender
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import ControllerSettings, load
from counterfoil.signatures.examiners import Examiners

_log = logging.getLogger("controller")


def main() -> int:
    """Run the controller; return the exit status."""
    settings = load(ControllerSettings, sys.argv[1:], os.environ)
    configure(settings.log_level, settings.log_format)
    keep_blocks()
    try:
        sealing = Sealing(settings.sealing_keys) if settings.sealing_keys is not None else None
        sealer = Sealer.load(settings.manifest_key) if settings.manifest_key is not None else None
    except (SealingKeysInvalid, SealKeyInvalid) as invalid:
        _log.critical("the controller can't start: %s", invalid)
        return 1
    with (
        tracing.configured("controller", os.environ),
        asyncio.Runner(loop_factory=Loop) as runner,
    ):
        return runner.run(run(settings, sealing, sealer))


async def run(settings: ControllerSettings, sealing: Sealing | None, sealer: Sealer | None) -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    metrics = Metrics(new_registry(), version=__version__)
    observe = partial(_count_request, metrics)
    async with (
        connect(namespace=settings.namespace, observe=observe) as cluster,
        make_http() as http,
        aclosing(Examiners()) as examiners,
    ):
        esaws = Esaws(http, WallClock(), partial(_count_esaw, metrics))
        notary = Notary(examiners, sealer)
        manager, notifier, background = assemble(
            settings, cluster, esaws, metrics, sealing=sealing, notary=notary
        )
        beginning = Beginning(partial(manager.load, cluster), WallClock())
        pulse = Pulse(WallClock(), WATCHED)
        labels = shard_labels(settings.shard, settings.shards)
        gaps = Gaps(cluster, manager, WallClock(), labels=labels, fields=UNFINISHED)
        pulse.listed = gaps.listed
        background.append(gaps.run())
        live = Liveness(
            cluster=cluster,
            schedule=manager.schedule,
            pulse=pulse,
            clock=WallClock(),
            metrics=metrics,
            silence=settings.watch_silence,
            overdue=settings.overdue,
        ).checks
        async with private_server(
            settings.private_listen,
            metrics.registry,
            live=live,
            ready={"kubernetes": beginning.check, **live},
        ):
            registry = handlers(manager, pulse)
            return await _work(
                settings, cluster, manager, notifier, beginning, background=background, registry=registry
            )


def assemble(
    settings: ControllerSettings,
    cluster: Cluster,
    esaws: Esaws,
    metrics: Metrics,
    *,
    sealing: Sealing | None,
    notary: Notary,
) -> tuple[Manager, Notifier, list[Coroutine[Any, Any, None]]]:
    """Build everything; return the manager, the notifier, and what has to run beside kopf."""
    clock = WallClock()
    office = Office()
    secrets = Secrets(cluster, clock)
    clerk = Clerk(cluster)
    announcer = Announcer(cluster, clock)
    doors = Doors(cluster, secrets, clock, metrics)
    keyring = Keyring(cluster, secrets, clock, sealing=sealing, consent_url=partial(_consent_url, office))
    reaper = Reaper(cluster=cluster, office=office, clock=clock)
    driver = Driver(
        cluster=cluster,
        office=office,
        reception=Reception(
            cluster=cluster,
            office=office,
            keyring=keyring,
            doors=doors,
            esaws=esaws,
            clock=clock,
            notary=notary,
        ),
        keyring=keyring,
        clerk=clerk,
        announcer=announcer,
        metrics=metrics,
        clock=clock,
        random=random.SystemRandom().random,
    )
    manager = Manager(
        cluster=cluster,
        office=office,
        driver=driver,
        doors=doors,
        keyring=keyring,
        organizations=Organizations(
            cluster=cluster,
            office=office,
            secrets=secrets,
            esaws=esaws,
            clock=clock,
            callback_url=settings.callback_url,
        ),
        esaws=esaws,
        sweeper=Sweeper(cluster=cluster, office=office, keyring=keyring, esaws=esaws, clock=clock),
        reaper=reaper,
        clock=clock,
        process_room=settings.concurrency,
        shard=settings.shard,
        shards=settings.shards,
    )
    requests = Requests(
        cluster=cluster,
        clerk=clerk,
        announcer=announcer,
        clock=clock,
        labels=shard_labels(settings.shard, settings.shards),
        exclusively=manager.schedule.exclusively,
        changed=manager.event_changed,
    )
    reopener = Reopener(
        cluster=cluster,
        office=office,
        clerk=clerk,
        announcer=announcer,
        clock=clock,
        labels=shard_labels(settings.shard, settings.shards),
        exclusively=manager.schedule.exclusively,
        changed=manager.event_changed,
    )
    manager.seen = reopener.see
    notifier = _notifier(cluster, secrets, metrics, clock, manager)
    manager.failed = partial(_tell, notifier, reopener)
    reaper.walked = notifier.walked
    reaper.reopened = reopener.missed
    background = [
        manager.schedule.run(),
        announcer.run(),
        manager.rounds.run(),
        requests.run(),
        reopener.run(),
        notifier.run(),
    ]
    if manager.is_home("walk", "events"):
        background.append(reaper.run())
    return manager, notifier, background


def _tell(notifier: Notifier, reopener: Reopener, event: EnvelopeEvent, began: datetime) -> None:
    notifier.failed(event)
    reopener.failed(event, began)


def _notifier(
    cluster: Cluster, secrets: Secrets, metrics: Metrics, clock: Clock, manager: Manager
) -> Notifier:
    notes = Notes(cluster, manager.office, manager.shared_changed)
    patience = Patience()
    return Notifier(
        office=manager.office,
        notes=notes,
        dispatch=Dispatch(
            notes=notes,
            secrets=secrets,
            postman=SmtpPostman(),
            metrics=metrics,
            clock=clock,
            namespace=cluster.namespace,
            patience=patience,
        ),
        clock=clock,
        patience=patience,
        sends=manager.is_home("walk", "events"),
        sender_of=manager.sender_of,
    )


async def _work(
    settings: ControllerSettings,
    cluster: Cluster,
    manager: Manager,
    notifier: Notifier,
    beginning: Beginning,
    *,
    background: list[Coroutine[Any, Any, None]],
    registry: kopf.OperatorRegistry,
) -> int:
    stop, kopf_ready, kopf_stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    _stops_on_signals(stop)
    if not await _has_begun(beginning, stop):
        for each in background:
            each.close()
        return 0
    tasks = [asyncio.create_task(each) for each in background]
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=operator_settings(shard_labels(settings.shard, settings.shards)),
            namespaces=[cluster.namespace],
            standalone=True,
            ready_flag=kopf_ready,
            stop_flag=kopf_stop,
        )
    )
    stopping = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(kopf_ready.wait())
    await asyncio.wait([ready, watching], return_when=asyncio.FIRST_COMPLETED)
    # Again, because kopf installs handlers of its own when it starts; ours let running transfers end first.
    _stops_on_signals(stop)
    _log.info("the controller works")
    ended, _ = await asyncio.wait([stopping, watching, *tasks], return_when=asyncio.FIRST_COMPLETED)
    if stopping in ended:
        _log.info("the controller stops")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.grace.total_seconds()):
                await asyncio.gather(manager.schedule.drained(), notifier.drained())
    for task in (*tasks, ready, stopping):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    # Last, because kopf cancels whatever still runs when it ends, and takes the errors of that for its own.
    kopf_stop.set()
    results += await asyncio.gather(watching, return_exceptions=True)
    await manager.doors.close()
    broken = [each for each in results if isinstance(each, Exception)]
    for problem in broken:
        _log.error("the controller broke", exc_info=problem)
    return 0 if stopping in ended and not broken else 1


def _stops_on_signals(stop: asyncio.Event) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)


async def _has_begun(beginning: Beginning, stop: asyncio.Event) -> bool:
    """Wait until there is something to work with; False: it was told to stop before."""
    reading, stopping = asyncio.create_task(beginning.run()), asyncio.create_task(stop.wait())
    await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not reading.done():
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return False
    reading.result()
    return True


def _consent_url(office: Office, sender: Sender) -> str | None:
    organization = office.organizations.get(sender.spec.organization_ref.name)
    return organization.consent_url(sender.name) if organization is not None else None


def _count_request(metrics: Metrics, verb: str, resource: str, status: int) -> None:
    metrics.kubernetes_requests.labels(verb, resource, str(status)).inc()


def _count_esaw(metrics: Metrics, operation: str, code: str, seconds: float) -> None:
    metrics.esaw_requests.labels(operation, code).inc()
    metrics.esaw_request_seconds.labels(operation).observe(seconds)


if __name__ == "__main__":
    sys.exit(main())
