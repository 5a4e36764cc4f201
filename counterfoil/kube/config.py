"""
Configuration of the access to the API server: address, TLS, credentials, namespace and connection pool.

The official client (``kubernetes.aio``) reads kubeconfig files and the ServiceAccount of a pod.
"""

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from counterfoil.kube.errors import NotConfigured

_NAME_ANOTHER = "Name another one by --kubeconfig FILE or $KUBECONFIG."
_SCHEMES = ("https://", "http://")
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
        words = _fault_of_kubeconfig(chosen or "~/.kube/config", context) or " ".join(str(trouble).split())
        raise NotConfigured(f"{chosen or 'the configuration'} leads to no API server: {words}") from trouble
    # The client takes any text as an address, and continues without a key after a sign-in that failed.
    if not configuration.host.startswith(_SCHEMES) or not _has_credentials(configuration):
        fault = _fault_of_kubeconfig(chosen or "~/.kube/config", context)
        if fault is not None:
            raise NotConfigured(f"{chosen or 'the configuration'} leads to no API server: {fault}")
    return configuration


def _has_credentials(configuration: Configuration) -> bool:
    return bool(configuration.api_key or configuration.cert_file or configuration.username)


def named_entries(contents: Iterable[Mapping[str, Any]], kind: str) -> dict[str, Mapping[str, Any]]:
    """
    Return the ``contexts``, ``clusters`` or ``users`` of kubeconfigs by name.

    The first of each name counts, as for kubectl. What is no entry is left out.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for content in contents:
        listed = content.get(kind)
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict):
                inner = each.get(kind.removesuffix("s"))
                found.setdefault(str(each.get("name")), inner if isinstance(inner, dict) else {})
    return found


def _fault_of_kubeconfig(chosen: str, context: str | None) -> str | None:
    """Return what is wrong with the files of a kubeconfig and what to type; None: nothing that is known."""
    contents = []
    for path in (Path(each).expanduser() for each in chosen.split(os.pathsep) if each):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as unreadable:
            return f"{path} can't be read ({type(unreadable).__name__}). {_NAME_ANOTHER}"
        except yaml.YAMLError:
            return f"{path} is no kubeconfig, since it is no YAML. {_NAME_ANOTHER}"
        if not isinstance(content, dict):
            found = "it is empty" if content is None else "it has no fields"
            return f"{path} is no kubeconfig: {found}. {_NAME_ANOTHER}"
        contents.append(content)
    if not contents:
        return f"the file does not exist. {_NAME_ANOTHER}"
    contexts = named_entries(contents, "contexts")
    current = context or next(
        (each["current-context"] for each in contents if each.get("current-context")), None
    )
    known = f"There are: {', '.join(contexts)}." if contexts else "It has no context at all."
    if not isinstance(current, str):
        return f"it names no current context. Type `kubectl config use-context NAME`. {known}"
    if current not in contexts:
        return f"it has no context {current!r}. {known}"
    return _fault_of_context(contents, current, contexts[current])


def _fault_of_context(
    contents: Iterable[Mapping[str, Any]], name: str, context: Mapping[str, Any]
) -> str | None:
    for kind in ("cluster", "user"):
        entries, named = named_entries(contents, f"{kind}s"), context.get(kind)
        wanted = str(named) if named is not None else None
        if wanted not in entries and (wanted is not None or kind == "cluster"):
            return (
                f"the context {name!r} names the {kind} {wanted!r}, which the file does not have. "
                f"There are: {', '.join(entries) or 'none'}."
            )
    cluster, user = str(context["cluster"]), context.get("user")
    server = str(named_entries(contents, "clusters")[cluster].get("server") or "HOST:PORT")
    if not server.startswith(_SCHEMES):
        address = f"https://{server}"
        command = shlex.join(["kubectl", "config", "set-cluster", cluster, "--server", address])
        return f"the server of the cluster {cluster!r} has no https://. Type `{command}`."
    login = named_entries(contents, "users").get(str(user), {}).get("exec")
    if not isinstance(login, dict):
        return None
    program = str(login.get("command"))
    signs_in = f"the program {program!r}, by which the user {user!r} signs in,"
    if shutil.which(program) is None:
        return f"{signs_in} is not on your PATH. Install it."
    return f"{signs_in} gave no key. Sign in again with it."


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
    """Return a pool of at most ``connections`` connections with the TLS settings of the configuration. Raises
    ``NotConfigured`` for a certificate or key that can't be read."""
    try:
        # Used for its TLS context only; see counterfoil.kube.client.
        tls = RESTClientObject(configuration).ssl_context
    except OSError as unreadable:
        raise NotConfigured(
            f"{configuration.host} can't be asked: a certificate or key for it can't be read "
            f"({type(unreadable).__name__}). Get a new kubeconfig for this cluster."
        ) from unreadable
    return ConnectionPool(limit=connections, ssl=tls, keepalive_timeout=60)
