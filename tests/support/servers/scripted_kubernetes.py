"""An HTTP server in the place of the API server, which answers as a test scripts it, and a client of it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from counterfoil.kube.client import KubeClient, connect

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def a_kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(json.dumps(content))
    return path


@asynccontextmanager
async def answered_by(handler: Handler, folder: Path, **options: Any) -> AsyncIterator[KubeClient]:
    """Yield a client whose requests are answered by ``handler``."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kubeconfig = a_kubeconfig(folder, f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with connect(namespace="contracts", kubeconfig=kubeconfig, **options) as kube:
            yield kube
    finally:
        await runner.cleanup()
