"""
Access to Kubernetes: the one place that speaks to the API server.

Objects come out as the plain dicts of their JSON and go in as such; typed forms are made of them by
``counterfoil.resources``. Configuration, TLS and token refresh are those of the official client
(``kubernetes.aio``); the calls themselves go over its session without its generated models and argument
checks, which cost 2.5 times the CPU of the request (see docs/decisions/0002).

Nothing is retried here: every error is raised as one of the ``ApiError`` classes, and who calls decides.
Secrets can be read by name only; there is no way to list or watch them (rule 8).
"""

import asyncio
import base64
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from counterfoil.resources import GROUP, Resource

Raw = dict[str, Any]
PartialT = TypeVar("PartialT")
RequestObserver = Callable[[str, str, int], None]
"""Is told of every finished request: verb, resource, HTTP status (0: no answer)."""

REQUEST_TIMEOUT_SECONDS = 20.0
"""Longest time for one request. The API server itself ends a request after 60 s; a caller that waits so long helps nobody."""

WATCH_IDLE_TIMEOUT_SECONDS = 75.0
"""Longest silence on a watch. The API server sends a bookmark about every 60 s; behind a load balancer that dropped
the connection none comes, and only this notices (kopf issues 204 and 698)."""

WATCH_RESTART_INTERVAL_SECONDS = 0.2
"""Pause between two requests of one watch. Nothing is missed by it, since the next one goes on from the last version;
without it a proxy that ends each watch at once would get thousands of them."""

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ApiError(Exception):
    """The API server did not do what was asked. ``status`` is its HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class NotFound(ApiError):
    """404: there is no such object."""


class AlreadyExists(ApiError):
    """409 to a create: an object of that name was there before."""


class Conflict(ApiError):
    """409 to a write with a resourceVersion: somebody else was first."""


class Forbidden(ApiError):
    """401 or 403: this process may not do that."""


class Rejected(ApiError):
    """400, 413, 422, or too large for etcd (``TooLarge``): the API server will never take this object as it is."""


class TooLarge(Rejected):
    """413, or too large for etcd (some 1.5 MiB): the object would have to be smaller."""


class Expired(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""

    token = ""
    """For a list in pages: with it the list goes on, of what there is now and no longer of what there was. May be empty."""


class Unavailable(ApiError):
    """No answer, 429 or 5xx: the same request may succeed later."""


class NotConfigured(Exception):
    """There is no usable way to an API server: no kubeconfig, or one that can't be read, and no pod's account."""


class WatchEvent(NamedTuple):
    """
    What a watch tells.

    ``SYNCED`` ends each full list; its ``raw`` is empty and ``names`` has what exists now, so that the follower
    can drop what vanished while nobody watched.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED", "BOOKMARK"]
    raw: Raw
    names: frozenset[str] = frozenset()


class KubeClient:
    """The API server, seen from one namespace. Made by ``connect``."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        configuration: Configuration,
        namespace: str,
        observe: RequestObserver,
        bearer: str | None = None,
    ) -> None:
        self.namespace = namespace
        self._session = session
        self._configuration = configuration
        self._observe = observe
        self._bearer = bearer
        self._host = configuration.host.rstrip("/")

    # -- Objects of a kind, which is one of Counterfoil's own or Lease ----------------------------------------

    async def get(self, kind: type[Resource], name: str) -> Raw:
        """Return one object. Raises ``NotFound``."""
        return await self._call("GET", self._path(kind, name), resource=kind.PLURAL, verb="get")

    async def get_partial(self, kind: type[Resource], name: str, shape: type[PartialT]) -> PartialT:
        """
        Return as much of one object as ``shape`` asks for, as it is at this moment (a read that no cache answers).

        Costs a fraction of ``get``, since the rest of the object is passed over unread. Raises ``NotFound``.
        """
        answer = await self._send("GET", self._path(kind, name), resource=kind.PLURAL, verb="get")
        return _decode_as(shape, answer)

    async def create(self, kind: type[Resource], body: Mapping[str, Any]) -> Raw:
        """Store a new object and return it. Raises ``AlreadyExists``, ``Rejected``."""
        return await self._call(
            "POST",
            self._path(kind),
            resource=kind.PLURAL,
            verb="create",
            body=msgspec.json.encode(body),
        )

    async def create_from_json(self, kind: type[Resource], body: bytes) -> None:
        """Store a new object given as JSON; for the receiver, which needs nothing of the answer. Raises as ``create``."""
        await self._send("POST", self._path(kind), resource=kind.PLURAL, verb="create", body=body)

    async def create_dry_run(self, kind: type[Resource], body: bytes) -> None:
        """Ask whether a new object given as JSON would be stored; it is not (``dryRun=All``). Raises as ``create``."""
        path = f"{self._path(kind)}?dryRun=All"
        await self._send("POST", path, resource=kind.PLURAL, verb="create", body=body)

    async def patch(self, kind: type[Resource], name: str, changes: Mapping[str, Any]) -> Raw:
        """Merge ``changes`` into the object (but its status). Raises ``NotFound``, ``Conflict``, ``Rejected``."""
        return await self._patch(self._path(kind, name), kind.PLURAL, changes)

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        """
        Merge ``status`` into the object's status, only if it is still at ``resource_version`` (None: in any case).

        Raises ``Conflict`` when somebody else wrote since, so that a stale worker loses instead of overwriting.
        """
        changes: Raw = {"status": status}
        if resource_version is not None:
            changes["metadata"] = {"resourceVersion": resource_version}
        return await self._patch(self._path(kind, name, "status"), f"{kind.PLURAL}/status", changes)

    async def delete(
        self, kind: type[Resource], name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        """Delete one object, if it still is this one. Raises ``NotFound``, ``Conflict``."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body = {"preconditions": {key: value for key, value in preconditions.items() if value is not None}}
        await self._send(
            "DELETE",
            self._path(kind, name),
            resource=kind.PLURAL,
            verb="delete",
            body=msgspec.json.encode(body),
        )

    async def page(
        self, kind: type[Resource], *, limit: int, token: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Raw], str]:
        """Return at most ``limit`` objects and the token of the next page (empty: it was the last). Raises ``Expired``."""
        answer = await self._request_page(kind, limit=limit, token=token, labels=labels, fields=fields)
        return answer.get("items", []), answer.get("metadata", {}).get("continue", "")

    async def list(
        self, kind: type[Resource], *, labels: str = "", fields: str = "", limit: int = 500
    ) -> AsyncIterator[Raw]:
        """Go through all objects, page by page, so that at most one page is in memory."""
        token = ""
        while True:
            items, token = await self.page(kind, limit=limit, token=token, labels=labels, fields=fields)
            for item in items:
                yield item
            if not token:
                return

    async def list_and_watch(
        self, kind: type[Resource], *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """
        List all objects, tell ``SYNCED``, then tell every change until the connection ends for good.

        Ends by raising an ``ApiError``; whoever follows calls again after a pause and gets a new list. A version
        that became too old is listed anew without being told, unless that was just done and nothing came since.
        """
        is_worth_a_list = True
        while True:
            version, names = "", set[str]()
            token = ""
            while True:
                answer = await self._request_page(kind, limit=500, token=token, labels=labels, fields=fields)
                for item in answer.get("items", []):
                    names.add(item["metadata"]["name"])
                    yield WatchEvent("ADDED", item)
                version = answer["metadata"]["resourceVersion"]
                token = answer["metadata"].get("continue", "")
                if not token:
                    break
            yield WatchEvent("SYNCED", {}, frozenset(names))
            watch = self._watch(kind, version=version, labels=labels, fields=fields)
            try:
                async with aclosing(watch):
                    async for change in watch:
                        is_worth_a_list = True
                        yield change
            except Expired:
                if not is_worth_a_list:
                    raise
                is_worth_a_list = False

    # -- What Kubernetes has --------------------------------------------------------------------------------

    async def secret(self, name: str) -> dict[str, bytes]:
        """Return the data of one Secret, decoded. Raises ``NotFound``, ``Forbidden``."""
        raw = await self.get_secret_object(name)
        return {key: base64.b64decode(value) for key, value in (raw.get("data") or {}).items()}

    async def get_secret_object(self, name: str) -> Raw:
        """Return one Secret with its type and version, its data in base64. Raises ``NotFound``, ``Forbidden``."""
        return await self._call("GET", self._secret_path(name), resource="secrets", verb="get")

    async def create_secret(self, body: Mapping[str, Any]) -> None:
        """Store a new Secret. Raises ``AlreadyExists``, ``Rejected``, ``Forbidden``."""
        await self._send(
            "POST",
            self._secret_path(),
            resource="secrets",
            verb="create",
            body=msgspec.json.encode({"apiVersion": "v1", "kind": "Secret", **body}),
        )

    async def patch_secret(self, name: str, changes: Mapping[str, Any]) -> None:
        """Merge ``changes`` into a Secret. Raises ``NotFound``, ``Conflict``, ``Rejected``, ``Forbidden``."""
        await self._patch(self._secret_path(name), "secrets", changes)

    async def create_event(self, body: Mapping[str, Any]) -> None:
        """Post a Kubernetes Event (events.k8s.io/v1)."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        await self._send("POST", path, resource="events", verb="create", body=msgspec.json.encode(body))

    async def events_regarding(self, uid: str, *, limit: int) -> Sequence[Raw]:
        """Return at most so many Kubernetes Events (events.k8s.io/v1) about one object. Raises ``Forbidden``."""
        query = _query(limit=str(limit), fieldSelector=f"regarding.uid={uid}")
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events?{query}"
        answer = await self._call("GET", path, resource="events", verb="list")
        return tuple(answer.get("items", ()))

    async def whoami(self) -> str:
        """Return the name of the user whose credentials these are (SelfSubjectReview). Raises ``Forbidden`` for none."""
        answer = await self._call(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            resource="selfsubjectreviews",
            verb="create",
            body=msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
        )
        return str(answer.get("status", {}).get("userInfo", {}).get("username", ""))

    async def is_allowed(self, verb: str, resource: str, *, group: str = GROUP) -> bool:
        """Whether this process is allowed to do that in its namespace (SelfSubjectAccessReview)."""
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await self._call(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            resource="selfsubjectaccessreviews",
            verb="create",
            body=msgspec.json.encode(body),
        )
        return bool(answer.get("status", {}).get("allowed"))

    # -- What a person's commands need ------------------------------------------------------------------------

    async def server_version(self) -> Raw:
        """Return what the API server says of its version."""
        return await self._call("GET", "/version", resource="version", verb="get")

    async def list_events(self) -> Sequence[Raw]:
        """Return the Kubernetes Events of the namespace, 500 at most; the API server keeps them for an hour."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events?limit=500"
        items: Sequence[Raw] = (await self._call("GET", path, resource="events", verb="list")).get(
            "items", []
        )
        return items

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        """Return the pods that the label selector chooses."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?{_query(limit='500', labelSelector=labels)}"
        items: Sequence[Raw] = (await self._call("GET", path, resource="pods", verb="list")).get("items", [])
        return items

    async def pod_log(self, name: str, container: str, *, lines: int) -> str:
        """Return the last lines that a container wrote."""
        query = _query(container=container, tailLines=str(lines))
        path = f"/api/v1/namespaces/{self.namespace}/pods/{_segment(name)}/log?{query}"
        answer = await self._send("GET", path, resource="pods/log", verb="get")
        return answer.decode(errors="replace")

    # -- How ------------------------------------------------------------------------------------------------

    def _path(self, kind: type[Resource], *parts: str) -> str:
        tail = "/".join(_segment(part) for part in (kind.PLURAL, *parts))
        return f"/apis/{kind.API_VERSION}/namespaces/{self.namespace}/{tail}"

    def _secret_path(self, *name: str) -> str:
        tail = "/".join(_segment(part) for part in ("secrets", *name))
        return f"/api/v1/namespaces/{self.namespace}/{tail}"

    async def _request_page(
        self, kind: type[Resource], *, limit: int, token: str, labels: str, fields: str
    ) -> Raw:
        query = _query(limit=str(limit), **{"continue": token}, labelSelector=labels, fieldSelector=fields)
        return await self._call("GET", f"{self._path(kind)}?{query}", resource=kind.PLURAL, verb="list")

    async def _patch(self, path: str, resource: str, changes: Mapping[str, Any]) -> Raw:
        return await self._call(
            "PATCH",
            path,
            resource=resource,
            verb="patch",
            body=msgspec.json.encode(changes),
            content_type="application/merge-patch+json",
        )

    async def _call(
        self,
        method: str,
        path: str,
        *,
        resource: str,
        verb: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Raw:
        answer = await self._send(
            method, path, resource=resource, verb=verb, body=body, content_type=content_type
        )
        return _decode(answer)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        resource: str,
        verb: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        headers = await self._headers()
        if body is not None:
            headers["Content-Type"] = content_type
        status = 0
        try:
            async with self._session.request(
                method, self._host + path, data=body, headers=headers
            ) as response:
                status = response.status
                answer = await response.read()
                retry_after = response.headers.get("Retry-After")
        except asyncio.CancelledError:
            # Most of all by a caller with less patience than ours.
            self._close_idle_connections()
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
            if isinstance(trouble, TimeoutError):
                self._close_idle_connections()
            raise Unavailable(
                0, "NoAnswer", f"the API server did not answer ({type(trouble).__name__})"
            ) from trouble
        finally:
            self._observe(verb, resource, status)
        if status >= 400:
            raise _api_error(status, answer, retry_after, creating=method == "POST")
        return answer

    def _close_idle_connections(self) -> None:
        if isinstance(self._session.connector, _ConnectionPool):
            self._session.connector.close_idle()

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "counterfoil"}
        if self._bearer is not None:
            headers["Authorization"] = f"Bearer {self._bearer}"
            return headers
        # Asked each time: this is where the official client refreshes a ServiceAccount's token.
        auth = cast("Mapping[str, Mapping[str, str]]", await self._configuration.auth_settings())
        headers.update({setting["key"]: setting["value"] for setting in auth.values()})
        return headers

    async def _watch(
        self, kind: type[Resource], *, version: str, labels: str, fields: str
    ) -> AsyncGenerator[WatchEvent, None]:
        while True:
            query = _query(
                watch="true",
                allowWatchBookmarks="true",
                resourceVersion=version,
                labelSelector=labels,
                fieldSelector=fields,
            )
            lines = self._lines(f"{self._path(kind)}?{query}", kind.PLURAL)
            async with aclosing(lines):
                async for line in lines:
                    payload = _decode(line)
                    raw = payload["object"]
                    if payload["type"] == "ERROR":
                        raise _api_error(int(raw.get("code", 500)), line, None, creating=False)
                    version = raw["metadata"]["resourceVersion"]
                    yield WatchEvent(payload["type"], raw)
            await asyncio.sleep(WATCH_RESTART_INTERVAL_SECONDS)

    async def _lines(self, path: str, resource: str) -> AsyncGenerator[bytes, None]:
        """Yield the lines of one watch request; ends when the server ends it, which it does every few minutes."""
        patience = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=WATCH_IDLE_TIMEOUT_SECONDS
        )
        status = 0
        try:
            headers = await self._headers()
            async with self._session.get(self._host + path, headers=headers, timeout=patience) as response:
                status = response.status
                if status >= 400:
                    raise _api_error(
                        status, await response.read(), response.headers.get("Retry-After"), creating=False
                    )
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
            raise Unavailable(0, "NoAnswer", f"the watch broke ({type(trouble).__name__})") from trouble
        finally:
            self._observe("watch", resource, status)


@asynccontextmanager
async def connect(
    *,
    namespace: str | None = None,
    kubeconfig: Path | None = None,
    context: str | None = None,
    observe: RequestObserver = lambda verb, resource, status: None,
    connections: int = 128,
) -> AsyncIterator[KubeClient]:
    """
    Open the way to the API server, and close it in the end.

    ``namespace`` of None: the one of the pod, or ``default`` outside a pod. Configuration: ``kubeconfig`` if given,
    else ``$KUBECONFIG``, else the pod's ServiceAccount, else ``~/.kube/config``; there the ``context`` of that name, None
    for the current one. At most ``connections`` at once.
    """
    configuration = await _configuration(kubeconfig, context)
    async with aiohttp.ClientSession(
        connector=_pool(configuration, connections),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
        read_bufsize=2**21,  # one line of a watch is one object
    ) as session:
        yield KubeClient(
            session=session,
            configuration=configuration,
            namespace=namespace or own_namespace(),
            observe=observe,
        )


class _ConnectionPool(aiohttp.TCPConnector):
    """Connections to the API server."""

    def close_idle(self) -> None:
        """
        Close those that nobody uses just now, since one of them gave no answer.

        What lets one fall silent (a node that is gone, a load balancer that forgot) mostly did that to all that were open
        then. Each of them would cost another request its whole time, for as long as aiohttp keeps them.
        """
        for idle in self._conns.values():
            while idle:
                protocol, _ = idle.popleft()
                protocol.close()


def _pool(configuration: Configuration, connections: int) -> _ConnectionPool:
    # The client is made for its TLS context only; see the module's docstring.
    tls = ApiClient(configuration).rest_client.ssl_context
    return _ConnectionPool(limit=connections, ssl=tls, keepalive_timeout=60)


class TokenClientFactory:
    """
    The way to the API server for whoever brings a bearer token; it has no credentials of its own. Made by ``open_token_client_factory``.

    Without a token it is nobody, so a request that forgot one is refused and not answered as somebody else.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        configuration: Configuration,
        namespace: str,
        observe: RequestObserver,
    ) -> None:
        self.namespace = namespace
        self._session = session
        self._configuration = configuration
        self._observe = observe

    def client_for(self, bearer: str) -> KubeClient:
        """Return the API server as the owner of this token sees it; the token itself is not checked here."""
        return KubeClient(
            session=self._session,
            configuration=self._configuration,
            namespace=self.namespace,
            observe=self._observe,
            bearer=bearer,
        )

    async def unavailable_reason(self) -> str | None:
        """Say why the API server can't be asked, or None; that it refuses nobody's question is an answer too."""
        url = f"{self._configuration.host.rstrip('/')}/version"
        try:
            async with self._session.get(url) as response:
                return None if response.status < 500 else f"the API server answered {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
            return f"the API server did not answer ({type(trouble).__name__})"


@asynccontextmanager
async def open_token_client_factory(
    *,
    namespace: str | None = None,
    kubeconfig: Path | None = None,
    observe: RequestObserver = lambda verb, resource, status: None,
    connections: int = 128,
) -> AsyncIterator[TokenClientFactory]:
    """
    Open the way to the API server without this process's own credentials, and close it in the end; as ``connect`` else.

    A kubeconfig's client certificate would count more than any token, and make everybody its owner, so only
    address and authority are taken over.
    """
    own = await _configuration(kubeconfig)
    bare = Configuration()
    bare.host, bare.proxy = own.host, own.proxy
    for name in ("ssl_ca_cert", "ca_cert_data", "verify_ssl", "disable_strict_ssl_verification"):
        setattr(bare, name, getattr(own, name))
    async with aiohttp.ClientSession(
        connector=_pool(bare, connections),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield TokenClientFactory(
            session=session,
            configuration=bare,
            namespace=namespace or own_namespace(),
            observe=observe,
        )


async def _configuration(kubeconfig: Path | None, context: str | None = None) -> Configuration:
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
        # The official client lets through whatever its parts raise, up to a TypeError for an empty file.
        words = " ".join(str(trouble).split())
        raise NotConfigured(f"{chosen or 'the configuration'} leads to no API server: {words}") from trouble
    return configuration


def is_in_cluster() -> bool:
    """Whether this process has a pod's ServiceAccount."""
    return _NAMESPACE_FILE.exists()


def own_namespace() -> str:
    """Return the namespace of the pod this runs in, or ``default`` outside a pod."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or "default"
    except OSError:
        return "default"


def exponential_backoff(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 0.2, doubled each time, 10 at most."""
    return min(0.2 * 2.0 ** min(failures, 6), 10.0)


async def list_and_watch_forever(
    kube: KubeClient,
    kind: type[Resource],
    *,
    labels: str = "",
    fields: str = "",
    pause: Callable[[int], float] = exponential_backoff,
    on_error: Callable[[ApiError], None],
) -> AsyncGenerator[WatchEvent, None]:
    """
    Follow a kind through every outage: after each ``ApiError`` tell ``trouble``, pause, list again.

    Pauses grow until a watch tells something; a list alone may be all that works, and is the dearest that can be asked.
    """
    failures = 0
    while True:
        changes = kube.list_and_watch(kind, labels=labels, fields=fields)
        try:
            async with aclosing(changes):
                async for change in changes:
                    # What lists tell as well says nothing about the watch.
                    if change.type not in ("ADDED", "SYNCED"):
                        failures = 0
                    yield change
        except ApiError as problem:
            on_error(problem)
        await asyncio.sleep(pause(failures))
        failures += 1


def _segment(part: str) -> str:
    """Write a name as one part of a path. Raises ``NotFound`` for one that would lead to something else, such as a list."""
    if part in {"", ".", ".."}:
        raise NotFound(404, "NotFound", f"{part!r} is the name of nothing")
    return quote(part, safe="")


def _query(**parameters: str) -> str:
    return urlencode({key: value for key, value in parameters.items() if value}, safe=",=!")


_BY_STATUS: Iterable[tuple[frozenset[int], type[ApiError]]] = (
    (frozenset({404}), NotFound),
    (frozenset({401, 403}), Forbidden),
    (frozenset({410}), Expired),
    (frozenset({408, 429}), Unavailable),
    (frozenset({413}), TooLarge),
)


_TOO_LARGE = re.compile(r"etcdserver: request is too large|trying to send message larger than max")
"""What etcd says from 1.5 MiB on, and its client from 2 MiB on. It comes as a 500, as if it could go away."""


def _decode(answer: bytes) -> Raw:
    return _decode_as(dict, answer)


def _decode_as(shape: type[PartialT], answer: bytes) -> PartialT:
    try:
        return msgspec.json.decode(answer, type=shape)
    except msgspec.DecodeError:
        # A proxy's page, or a line that was cut off: what the API server itself sends is JSON.
        raise Unavailable(0, "NoAnswer", "what answered is not the API server, or was cut off") from None


def _api_error(status: int, answer: bytes, retry_after: str | None, *, creating: bool) -> ApiError:
    try:
        payload = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        payload = None
    payload = payload if isinstance(payload, dict) else {}
    payload = payload.get("object", payload) if payload.get("type") == "ERROR" else payload
    reason = str(payload.get("reason") or status)
    message = f"the API server answered {status} {reason}: {payload.get('message', '')}".rstrip(": ")
    seconds = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    kind = TooLarge if _TOO_LARGE.search(message) else _error_class(status, reason, creating=creating)
    problem = kind(status, reason, message, seconds)
    if isinstance(problem, Expired):
        problem.token = str((payload.get("metadata") or {}).get("continue") or "")
    return problem


def _error_class(status: int, reason: str, *, creating: bool) -> type[ApiError]:
    if status == 409:
        return AlreadyExists if creating and reason == "AlreadyExists" else Conflict
    for statuses, problem in _BY_STATUS:
        if status in statuses:
            return problem
    return Unavailable if status >= 500 else Rejected
