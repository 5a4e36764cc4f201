"""``python -m controller``: read the settings, configure logging, run the controller until SIGTERM."""

import asyncio
import logging
import os
import sys
from contextlib import aclosing

from controller.app import build
from controller.reconcile.signature_policy import SignatureChecker
from counterfoil import __version__, tracing
from counterfoil._upstream.event_loop import EventLoop
from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives.manifest_signature import ManifestSigner, SigningKeyInvalid
from counterfoil.clock import WallClock
from counterfoil.esaw.client import new_http_client
from counterfoil.esaw.registry import EsawClients
from counterfoil.kube.client import connect
from counterfoil.logs import configure
from counterfoil.metrics import Metrics, new_registry
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import ControllerSettings, load
from counterfoil.signatures.worker_pool import SignatureWorkers

_log = logging.getLogger("controller")


def main() -> int:
    """Run the controller; return the exit status."""
    settings = load(ControllerSettings, sys.argv[1:], os.environ)
    configure(settings.log_level, settings.log_format)
    keep_large_blocks()
    try:
        sealing = Sealing(settings.sealing_keys) if settings.sealing_keys is not None else None
        signer = ManifestSigner.load(settings.manifest_key) if settings.manifest_key is not None else None
    except (SealingKeysInvalid, SigningKeyInvalid) as invalid:
        _log.critical("the controller can't start: %s", invalid)
        return 1
    with tracing.configured("controller", os.environ), asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(run(settings, sealing, signer))


async def run(settings: ControllerSettings, sealing: Sealing | None, signer: ManifestSigner | None) -> int:
    """Connect, build the app and run it until SIGTERM or SIGINT; return the exit status."""
    metrics = Metrics(new_registry(), version=__version__)
    async with (
        connect(namespace=settings.namespace, observe=metrics.kubernetes_request) as kube,
        new_http_client() as http,
        aclosing(SignatureWorkers()) as signature_workers,
    ):
        app = build(
            settings,
            kube,
            EsawClients(http, WallClock(), metrics.esaw_request),
            metrics,
            sealing=sealing,
            signature_checker=SignatureChecker(signature_workers, signer),
        )
        return await app.run()


if __name__ == "__main__":
    sys.exit(main())
