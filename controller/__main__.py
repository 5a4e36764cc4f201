"""``python -m controller``: read the settings, configure logging, run the controller until SIGTERM."""

import logging
import os
import secrets
import socket
import sys
from contextlib import aclosing
from dataclasses import dataclass

from controller.app import App
from controller.election.elections import ElectionThread
from controller.election.shard_lock import LeaseTimings
from controller.event_recorder import EventRecorder
from controller.gauges import publish_shards
from controller.generations import GenerationEnd, StopRequest, block_stop_signals, run_generations, stand_by
from controller.namespaces.components import Components, build, minimum_rate
from controller.namespaces.status import NamespaceStatus
from controller.namespaces.supervisor import PROBE_INTERVAL, NamespaceSupervisor
from controller.reconcile.signature_policy import SignatureChecker
from controller.scheduling.process_slots import ProcessSlots
from controller.watch.kopf_operator import WATCHED_PLURALS, build_registry
from controller.watch.kopf_session import KopfSessions
from controller.watch.watched_namespaces import WatchedNamespaces
from counterfoil import __version__, tracing
from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives.manifest_signature import ManifestSigner, SigningKeyInvalid
from counterfoil.archives.tags_subprocess import TagWorkers
from counterfoil.clock import WallClock
from counterfoil.esaw.client import EsawClients, new_http_client
from counterfoil.esaw.limits import CallLimits
from counterfoil.health import listening_socket
from counterfoil.kube.client import connect
from counterfoil.kube.config import own_namespace
from counterfoil.kube.served_namespaces import NamespacesFileInvalid, ServedNamespaces
from counterfoil.kube.server_clock import ServerClock
from counterfoil.logs import configure
from counterfoil.metrics import Metrics, new_registry
from counterfoil.process_exit import exit_process
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import ControllerSettings, load
from counterfoil.signatures.worker_pool import SignatureWorkers
from counterfoil.untrusted.addresses import ALLOWED, allowed_addresses
from counterfoil.untrusted.loop_watchdog import watched_event_loop
from counterfoil.worker_processes.sandbox import has_seccomp, hide_memory, landlock_version

_log = logging.getLogger("controller")


def main() -> int:
    """Run the controller; return the exit status."""
    settings = load(ControllerSettings, sys.argv[1:], os.environ)
    configure(settings.log_level, settings.log_format)
    hide_memory()
    ALLOWED.set(
        allowed_addresses(
            settings.node_addresses or (),
            allows_loopback=settings.allow_loopback,
            allows_node=settings.allow_node,
        )
    )
    if landlock_version() == 0:
        _log.warning(
            "the kernel has no Landlock, or the container's profile refuses it: a PDF or metadata that takes "
            "over its worker process can read the pod's files"
        )
    if not has_seccomp():
        _log.warning(
            "the kernel has no seccomp filters, or none is known for this machine: a PDF or metadata that "
            "takes over its worker process can open connections and disable the controller"
        )
    keep_large_blocks()
    try:
        sealing = Sealing(settings.sealing_keys) if settings.sealing_keys is not None else None
        signer = ManifestSigner.load(settings.manifest_key) if settings.manifest_key is not None else None
        served = ServedNamespaces.load(settings, settings.namespace or own_namespace())
    except (SealingKeysInvalid, SigningKeyInvalid, NamespacesFileInvalid) as invalid:
        _log.critical("the controller can't start: %s", invalid)
        return 1
    block_stop_signals()
    metrics = Metrics(new_registry(), version=__version__, process="controller")
    if sealing is not None:
        metrics.sealing_key_faults.set_function(sealing.fault_count)
    with (
        tracing.configured("controller", os.environ),
        listening_socket(settings.private_listen) as private_socket,
        election_thread(settings, served) as elections,
    ):
        publish_shards(metrics, lambda: elections.held)
        process = ControllerProcess(settings, served, elections, private_socket, metrics, sealing, signer)
        return run_generations(process.run_generation)


def election_thread(settings: ControllerSettings, served: ServedNamespaces) -> ElectionThread:
    """Return the candidate for the Leases of all shards."""
    identity = settings.identity or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    timings = LeaseTimings(
        duration=settings.lease_duration.total_seconds(),
        renew_deadline=settings.renew_deadline.total_seconds(),
        retry_period=settings.retry_period.total_seconds(),
    )
    return ElectionThread(identity, served.own, settings.shards, timings, served=lambda: served.names)


@dataclass(frozen=True)
class ControllerProcess:
    """The parts of a process that all of its generations share."""

    settings: ControllerSettings
    served: ServedNamespaces
    elections: ElectionThread
    private_socket: socket.socket
    metrics: Metrics
    sealing: Sealing | None
    signer: ManifestSigner | None

    async def run_generation(self, stop_request: StopRequest) -> GenerationEnd:
        """Run one generation: on the shards that are held now, or on standby without one."""
        with watched_event_loop(self.metrics):
            return await self._run_generation(stop_request)

    async def _run_generation(self, stop_request: StopRequest) -> GenerationEnd:
        held = self.elections.held
        self.metrics.forget_cluster()
        if not held.leases:
            return await stand_by(
                self.elections,
                held,
                stop_request,
                self.private_socket,
                self.metrics.registry,
                served=self.served,
                clock=WallClock(),
            )
        slots = ProcessSlots()
        async with (
            connect(namespace=self.settings.namespace, observe=self.metrics.kubernetes_request) as kube,
            new_http_client(share=slots.share) as http,
            aclosing(SignatureWorkers(share=slots.share)) as signature_workers,
            aclosing(TagWorkers()) as tag_workers,
        ):
            signature_checker = SignatureChecker(signature_workers, self.signer)
            call_limits = CallLimits(minimum_rate=minimum_rate(self.settings))

            def build_in(namespace: str) -> Components:
                in_namespace = kube.in_namespace(namespace)
                clock, metrics = ServerClock(WallClock(), in_namespace), self.metrics.in_namespace(namespace)
                return build(
                    self.settings,
                    in_namespace,
                    EsawClients(http, clock, metrics.esaw_request, call_limits, namespace),
                    metrics,
                    held,
                    clock=clock,
                    slots=slots,
                    own_namespace=self.served.own,
                    sealing=self.sealing and self.sealing.for_namespace(namespace, own=self.served.own),
                    signature_checker=signature_checker,
                    tag_workers=tag_workers,
                )

            clock, watched = WallClock(), WatchedNamespaces()
            sessions = KopfSessions(clock, WATCHED_PLURALS, watched, authorization=kube.authorization)
            event_recorder = EventRecorder(kube, ServerClock(clock, kube))
            app = App(
                held=held,
                grace=self.settings.grace,
                kopf_registry=build_registry(watched, sessions),
                watched=watched,
                supervisor=NamespaceSupervisor(
                    self.served,
                    build_in,
                    watched,
                    NamespaceStatus(self.metrics, event_recorder),
                    clock,
                    self.settings.grace,
                    max(self.settings.watch_silence, self.settings.overdue) + PROBE_INTERVAL,
                ),
                event_recorder=event_recorder,
                metrics_registry=self.metrics.registry,
            )
            return await app.run(self.elections, stop_request, self.private_socket)


if __name__ == "__main__":
    exit_process(main())
