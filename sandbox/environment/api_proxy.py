"""
A proxy between the API server and one or more processes of Counterfoil.

The proxy speaks plain HTTP, so a client certificate does not pass it. A process behind it has the bearer
token of its ServiceAccount.
"""

import base64
import json
import ssl
from pathlib import Path

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.proxies import Proxy, Ticks


def api_proxy(plane: ControlPlane, ticks: Ticks) -> Proxy:
    """Return a proxy of the API server; use it with ``async with``."""
    cluster = json.loads(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return Proxy(plane.url, ticks=ticks, tls=ssl.create_default_context(cadata=authority))


async def kubeconfig_through(
    proxy: Proxy, plane: ControlPlane, account: str, namespace: str, path: Path
) -> Path:
    """Write a kubeconfig of a ServiceAccount, which leads through the proxy, to ``path``; return the path."""
    content = json.loads((await plane.kubeconfig_for(account, namespace)).read_text())
    content["clusters"][0]["cluster"] = {"server": proxy.url}
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path
