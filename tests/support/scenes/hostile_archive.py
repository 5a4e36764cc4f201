"""
A program for tests: asks things of archives whose servers are hostile, and prints by how much it grew.

Each line of the standard input is ``{probe,entries} KIND URL``. For each, a fork of this process, which has
imported all modules, prints the growth of its memory in bytes and the error that came of it. A probe is the
controller's, with the Archive's status.
"""

import asyncio
import base64
import json
import os
import sys
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from controller.access.archive_pool import ArchivePool
from controller.access.secret_cache import SecretCache
from controller.cache import Cache
from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives.backends import gcs
from counterfoil.archives.errors import ArchiveError
from counterfoil.clock import WallClock
from counterfoil.metrics import Metrics
from counterfoil.process_exit import exit_process
from counterfoil.resources import Archive, find_condition
from counterfoil.testing.archive_contract.runs import peak_memory
from counterfoil.untrusted.addresses import ALLOWED, Addresses
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.reconcile_context import an_archive
from tests.support.signing_keys import rsa_private_pem

REF = {"name": "dms-key"}
KINDS = ("s3", "azblob", "gcs", "webdav", "cmis", "http")
LOGIN = {"username": b"u", "password": b"p"}


def archive_at(kind: str, url: str) -> tuple[Archive, dict[str, bytes]]:
    """Return an Archive of a kind whose server is at ``url``, and the content of its Secret."""
    settings: dict[str, Any] = {
        "s3": {"bucket": "contracts", "endpoint": url, "forcePathStyle": True, "credentialsSecretRef": REF},
        "azblob": {"container": "contracts", "endpoint": url, "credentialsSecretRef": REF},
        "gcs": {"bucket": "contracts", "credentialsSecretRef": REF},
        "webdav": {"url": url, "credentialsSecretRef": REF},
        "cmis": {"url": url, "repositoryID": "r", "credentialsSecretRef": REF},
        "http": {"url": url, "credentialsSecretRef": REF},
    }
    if kind == "sftp":
        at = urlsplit(url)
        server = {"host": at.hostname, "port": at.port, "root": "/", "hostKeys": [at.fragment]}
        settings["sftp"] = {**server, "credentialsSecretRef": REF}
    account = {"client_email": "a@acme.example", "private_key_id": "1"}
    secrets: dict[str, dict[str, bytes]] = {
        "s3": {"accessKeyId": b"KEY", "secretAccessKey": b"s", "sessionToken": b"SESSION-TOKEN"},
        "azblob": {"accountName": b"acme", "accountKey": base64.b64encode(b"key")},
        "gcs": {"serviceAccountJson": json.dumps({**account, "private_key": rsa_private_pem()}).encode()},
    }
    spec: dict[str, Any] = {"filesystem": None, kind: settings[kind]}
    archive = an_archive(**spec)
    return archive, secrets.get(kind, LOGIN)


async def ask(operation: str, kind: str, url: str) -> tuple[int, str]:
    """Return the growth in bytes, and the reason of the error."""
    archive, secret = archive_at(kind, url)
    if kind == "gcs":
        # The only kind whose address is no setting.
        gcs.OPENER = partial(gcs.open_gcs, address=url)
    kube, clock = InMemoryKubeClient(archive), WallClock()
    kube.secret_uses["dms-key"] = "archive"
    kube.secrets["dms-key"] = secret
    secrets, metrics = SecretCache(kube, clock), Metrics(CollectorRegistry(), version="test")
    pool = ArchivePool(kube, Cache(), secrets, clock, metrics)
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
    for kind in KINDS:
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
