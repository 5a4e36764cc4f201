"""
A program for tests: asks things of archives whose servers are hostile, and prints by how much it grew.

Each line of the standard input is ``{probe,entries} KIND URL``. For each, a fork of this process, which has
imported all modules, prints the growth of its memory in bytes and the error that came of it. A probe is the
controller's, with the Archive's status.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from controller.access.archive_pool import ArchivePool
from controller.access.pod_access import PodAccess
from controller.access.secret_cache import SecretCache
from controller.cache import Cache
from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives.backends import gcs
from counterfoil.archives.errors import ArchiveError
from counterfoil.clock import WallClock
from counterfoil.metrics import Metrics
from counterfoil.process_exit import exit_process
from counterfoil.resources import Archive, find_condition
from counterfoil.settings import ControllerSettings
from counterfoil.testing.archive_contract.runs import peak_memory
from counterfoil.untrusted.addresses import ALLOWED, Addresses
from tests.support.archive_servers import HTTP_KINDS, SECRETS, spec_at
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.reconcile_context import an_archive


def archive_at(kind: str, url: str) -> tuple[Archive, Mapping[str, bytes]]:
    """Return an Archive of a kind whose server is at ``url``, and the content of its Secret."""
    return replace(an_archive(), spec=spec_at(kind, url)), SECRETS[kind]


async def ask(operation: str, kind: str, url: str) -> tuple[int, str]:
    """Return the growth in bytes, and the reason of the error."""
    archive, secret = archive_at(kind, url)
    if kind == "gcs":
        # The only kind whose address is no setting.
        gcs.OPENER = partial(gcs.open_gcs, address=url)
    kube, clock = InMemoryKubeClient(archive), WallClock()
    kube.secret_uses["dms-key"] = "archive"
    kube.secrets["dms-key"] = dict(secret)
    secrets, metrics = SecretCache(kube, clock), Metrics(CollectorRegistry(), version="test")
    access = PodAccess.of(ControllerSettings(namespace=kube.namespace), kube.namespace)
    pool = ArchivePool(kube, Cache(), secrets, clock, metrics, access)
    backend = await pool.backend(archive)
    before, reason = peak_memory(), ""
    if operation == "probe":
        after = await pool.update_status(archive)
        ready = find_condition(after.status.conditions, "Ready") if after is not None else None
        reason = ready.reason if ready is not None else ""
    else:
        try:
            await backend.entries("a")
        except ArchiveError as error:
            reason = error.reason
    grown = peak_memory() - before
    await backend.close()
    return grown, reason


if __name__ == "__main__":
    keep_large_blocks()  # as the controller does
    ALLOWED.set(Addresses(allows_loopback=True))
    for kind in HTTP_KINDS:
        import_module(f"counterfoil.archives.backends.{kind}")
    for line in sys.stdin:
        if not os.fork():
            size, said = asyncio.run(ask(*line.split()))
            sys.stdout.write(f"{size} {said}\n")
            exit_process(0)
        if os.wait()[1]:
            # The error is on the standard error.
            sys.stdout.write("\n")
            sys.stdout.flush()
