"""
Configuration of the access to the API server: address, TLS, credentials, namespace and connection pool.

The official client (``kubernetes.aio``) reads kubeconfig files and the ServiceAccount of a pod.
"""

import os
from pathlib import Path

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from counterfoil.kube.errors import NotConfigured

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def load_configuration(kubeconfig: Path | None, context: str | None = None) -> Configuration:
    """Read the configuration, as ``connect`` describes. Raises ``NotConfigured``."""
    configuration = Configuration()
    chosen = str(kubeconfig or os.environ.get("KUBECONFIG") or "")
    try:
        if chosen == "" and context is None and is_in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(
                config_file=chosen or "~/.kube/config",
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except Exception as trouble:
        # The official client raises every error of its parts, up to a TypeError for an empty file.
        words = " ".join(str(trouble).split())
        raise NotConfigured(f"{chosen or 'the configuration'} leads to no API server: {words}") from trouble
    return configuration


def is_in_cluster() -> bool:
    """Whether this process runs in a pod with a ServiceAccount."""
    return _NAMESPACE_FILE.exists()


def own_namespace() -> str:
    """Return the namespace of this pod, or ``default`` outside a pod."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or "default"
    except OSError:
        return "default"


class ConnectionPool(aiohttp.TCPConnector):
    """Pool of connections to the API server."""

    def close_idle(self) -> None:
        """
        Close all idle connections. Called after a request on one connection timed out.

        A lost node or a load balancer that dropped its state mostly breaks all open connections at the same
        time. Each broken connection that stays in the pool would cost another request its full timeout.
        """
        for idle in self._conns.values():
            while idle:
                protocol, _ = idle.popleft()
                protocol.close()


def new_connection_pool(configuration: Configuration, connections: int) -> ConnectionPool:
    """Return a pool of at most ``connections`` connections with the TLS settings of the configuration."""
    # Used for its TLS context only; see counterfoil.kube.client.
    tls = RESTClientObject(configuration).ssl_context
    return ConnectionPool(limit=connections, ssl=tls, keepalive_timeout=60)
