"""
Configuration of the access to the API server: address, TLS, credentials, namespace and connection pool.

The official client (``kubernetes.aio``) reads kubeconfig files and the ServiceAccount of a pod.
"""

import os
import shlex
import shutil
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from counterfoil.kube.errors import NotConfigured

_DEFAULT_KUBECONFIG = "~/.kube/config"
_GET_A_NEW_ONE = "Get a new kubeconfig for this cluster."
_NAME_ANOTHER = "Name another one by --kubeconfig FILE or $KUBECONFIG."
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
"""Fields of a cluster or of a user that name a file."""
_SCHEMES = ("https://", "http://")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def load_configuration(kubeconfig: Path | None, context: str | None = None) -> Configuration:
    """Read the configuration, as ``connect`` describes. Raises ``NotConfigured``."""
    configuration = Configuration()
    named = str(kubeconfig or os.environ.get("KUBECONFIG") or "")
    if named == "" and context is None and is_in_cluster():
        _load_service_account(configuration)
        return configuration
    chosen = named or _DEFAULT_KUBECONFIG
    try:
        await config.load_kube_config(
            config_file=chosen, context=context, client_configuration=configuration, persist_config=False
        )
    except Exception as trouble:
        # The official client raises every error of its parts, up to a TypeError for an empty file.
        words = _fault_of_kubeconfig(chosen, context) or " ".join(str(trouble).split())
        raise NotConfigured(f"{chosen} leads to no API server: {words}") from trouble
    # The client takes any text as an address, and continues without a key after a sign-in that failed.
    if not configuration.host.startswith(_SCHEMES) or not _has_credentials(configuration):
        fault = _fault_of_kubeconfig(chosen, context)
        if fault is not None:
            raise NotConfigured(f"{chosen} leads to no API server: {fault}")
    return configuration


def _load_service_account(configuration: Configuration) -> None:
    try:
        config.load_incluster_config(client_configuration=configuration)
    except Exception as trouble:
        raise NotConfigured(
            f"the ServiceAccount of this pod leads to no API server: {' '.join(str(trouble).split())}"
        ) from trouble


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
    contents, folders = [], []
    for path in (Path(each).expanduser() for each in chosen.split(os.pathsep) if each):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except OSError as unreadable:
            return f"{path} can't be read ({type(unreadable).__name__}). {_NAME_ANOTHER}"
        except (UnicodeDecodeError, yaml.YAMLError):
            return f"{path} is no kubeconfig, since it is no YAML. {_NAME_ANOTHER}"
        if not isinstance(content, dict):
            found = "it is empty" if content is None else "it has no fields"
            return f"{path} is no kubeconfig: {found}. {_NAME_ANOTHER}"
        contents.append(content)
        folders.append(path.parent)
    if not contents:
        return f"the file does not exist. {_NAME_ANOTHER}"
    contexts = named_entries(contents, "contexts")
    current = context or next(
        (each["current-context"] for each in contents if each.get("current-context")), None
    )
    if not contexts:
        return f"it has no context at all. {_NAME_ANOTHER}"
    if not isinstance(current, str) or current not in contexts:
        fault = f"it has no context {current!r}" if current else "it names no current context"
        return f"{fault}. There are: {', '.join(contexts)}. Type `kubectl config use-context NAME`."
    return _fault_of_context(contents, folders, current, contexts[current])


def _fault_of_context(
    contents: Sequence[Mapping[str, Any]], folders: Iterable[Path], name: str, context: Mapping[str, Any]
) -> str | None:
    for kind in ("cluster", "user"):
        entries, named = named_entries(contents, f"{kind}s"), context.get(kind)
        wanted = str(named) if named is not None else None
        if wanted not in entries and (wanted is not None or kind == "cluster"):
            fault = f"the context {name!r} names the {kind} {wanted!r}, which the file does not have."
            if not entries:
                return f"{fault} {_NAME_ANOTHER}"
            command = f"{shlex.join(['kubectl', 'config', 'set-context', name, f'--{kind}'])} NAME"
            return f"{fault} There are: {', '.join(entries)}. Type `{command}`."
    cluster, user = str(context["cluster"]), str(context.get("user"))
    fields_of_cluster = named_entries(contents, "clusters")[cluster]
    server = str(fields_of_cluster.get("server") or "HOST:PORT")
    if not server.startswith(_SCHEMES):
        address = f"https://{server}"
        command = shlex.join(["kubectl", "config", "set-cluster", cluster, "--server", address])
        return f"the server of the cluster {cluster!r} has no https://. Type `{command}`."
    fields_of_user = named_entries(contents, "users").get(user, {})
    for owner, fields in ((f"cluster {cluster!r}", fields_of_cluster), (f"user {user!r}", fields_of_user)):
        for file in (str(fields[each]) for each in _FILES if fields.get(each)):
            # A relative path begins at the folder of the kubeconfig.
            if not any((folder / file).is_file() for folder in folders):
                return f"the {owner} names the file {file}, which does not exist. {_GET_A_NEW_ONE}"
    return _fault_of_sign_in(user, fields_of_user)


def _fault_of_sign_in(user: str, fields: Mapping[str, Any]) -> str | None:
    login, provider = fields.get("exec"), fields.get("auth-provider")
    if isinstance(login, dict):
        program = str(login.get("command"))
        signs_in = f"the program {program!r}, by which the user {user!r} signs in,"
        if shutil.which(program) is None:
            return f"{signs_in} is not on your PATH. Install it."
        return f"{signs_in} gave no key. Sign in again with it."
    if isinstance(provider, dict):
        name = provider.get("name")
        return (
            f"the auth-provider {name!r}, by which the user {user!r} signs in, gave no key. {_GET_A_NEW_ONE}"
        )
    return None


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
    """
    Pool of connections to the API server. The next request takes the connection that was used last.

    aiohttp takes the one that has been idle longest. A few requests a second then use all connections of an
    earlier burst in turn, so that none of them ever becomes idle for long enough to be closed.
    """

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        idle = self._conns.get(key)
        if idle and idle[-1][0] is protocol:
            # aiohttp adds at the end, and takes the first one.
            idle.rotate(1)

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


def tls_context(configuration: Configuration) -> ssl.SSLContext:
    """Return the TLS settings of the configuration. Raises ``NotConfigured`` for a certificate or key that
    can't be read."""
    try:
        # Used for its TLS context only; see counterfoil.kube.client.
        return RESTClientObject(configuration).ssl_context
    except OSError as unreadable:
        raise NotConfigured(
            f"{configuration.host} can't be asked: a certificate or key for it can't be read "
            f"({type(unreadable).__name__}). {_GET_A_NEW_ONE}"
        ) from unreadable


def new_connection_pool(tls: ssl.SSLContext, connections: int) -> ConnectionPool:
    """Return a pool of at most ``connections`` connections; 0 is no maximum."""
    return ConnectionPool(limit=connections, ssl=tls, keepalive_timeout=60)
