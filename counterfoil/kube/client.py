"""
The client of the API server: every request of Counterfoil to Kubernetes goes through this module.

Methods take and return objects as the dicts of their JSON; ``counterfoil.resources`` has the typed forms.
Configuration, TLS and token refresh come from the official client (``kubernetes.aio``). Requests use an
aiohttp session without the generated models and argument checks, which cost 2.5 times the CPU of the request
(docs/decisions/0002).

The client retries nothing. It raises each error as a subclass of ``ApiError``, and the caller decides.
Secrets can be read by name only; no method lists or watches them (rule 8).
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import Configuration

from counterfoil.kube.config import ConnectionPool, load_configuration, new_connection_pool, own_namespace
from counterfoil.kube.errors import Expired, NotFound, Unavailable, api_error
from counterfoil.kube.watch import WATCH_IDLE_TIMEOUT_SECONDS, WATCH_RESTART_INTERVAL_SECONDS, Raw, WatchEvent
from counterfoil.resources import GROUP, Resource

PartialT = TypeVar("PartialT")
RequestObserver = Callable[[str, str, int], None]
"""Called after every request: verb, resource, HTTP status (0 when there was no response)."""

REQUEST_TIMEOUT_SECONDS = 20.0
"""Timeout for one request. The API server itself ends a request after 60 s, which is too long for callers."""


class KubeClient:
    """Client of the API server for one namespace. Created by ``connect``."""

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

    # -- Objects of a kind: Counterfoil's resources and Leases -----------------------------------------------

    async def get(self, kind: type[Resource], name: str) -> Raw:
        """Return one object. Raises ``NotFound``."""
        return await self._call("GET", self._path(kind, name), resource=kind.PLURAL, verb="get")

    async def get_partial(self, kind: type[Resource], name: str, shape: type[PartialT]) -> PartialT:
        """
        Return the fields of one object that ``shape`` declares, in their current state (an uncached read).

        Costs a fraction of ``get``, since the decoder skips all other fields. Raises ``NotFound``.
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
        """Store a new object given as JSON; for the receiver, which needs no response. Raises as
        ``create``."""
        await self._send("POST", self._path(kind), resource=kind.PLURAL, verb="create", body=body)

    async def create_dry_run(self, kind: type[Resource], body: bytes) -> None:
        """Check that a new object could be stored, without storing it (``dryRun=All``). Raises as
        ``create``."""
        path = f"{self._path(kind)}?dryRun=All"
        await self._send("POST", path, resource=kind.PLURAL, verb="create", body=body)

    async def patch(self, kind: type[Resource], name: str, changes: Mapping[str, Any]) -> Raw:
        """Merge ``changes`` into the object except its status. Raises ``NotFound``, ``Conflict``,
        ``Rejected``."""
        return await self._patch(self._path(kind, name), kind.PLURAL, changes)

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        """
        Merge ``status`` into the object's status if the object is still at ``resource_version`` (None:
        always).

        Raises ``Conflict`` when another client wrote since, so that a worker with old data does not
        overwrite.
        """
        changes: Raw = {"status": status}
        if resource_version is not None:
            changes["metadata"] = {"resourceVersion": resource_version}
        return await self._patch(self._path(kind, name, "status"), f"{kind.PLURAL}/status", changes)

    async def delete(
        self, kind: type[Resource], name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        """Delete one object if ``uid`` and ``resource_version`` still match. Raises ``NotFound``,
        ``Conflict``."""
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
        """Return at most ``limit`` objects and the token of the next page (empty after the last). Raises
        ``Expired``."""
        answer = await self._request_page(kind, limit=limit, token=token, labels=labels, fields=fields)
        return answer.get("items", []), answer.get("metadata", {}).get("continue", "")

    async def list(
        self, kind: type[Resource], *, labels: str = "", fields: str = "", limit: int = 500
    ) -> AsyncIterator[Raw]:
        """Yield all objects, page by page, so that at most one page is in memory."""
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
        List all objects, yield ``SYNCED``, then yield every change until the watch fails.

        Ends by raising an ``ApiError``; the caller calls again after a pause and gets a new list. After
        ``Expired`` the method lists again without raising, unless no change arrived since the last list.
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

    # -- Kubernetes' own kinds ------------------------------------------------------------------------------

    async def secret(self, name: str) -> dict[str, bytes]:
        """Return the data of one Secret, decoded. Raises ``NotFound``, ``Forbidden``."""
        raw = await self.get_secret_object(name)
        return {key: base64.b64decode(value) for key, value in (raw.get("data") or {}).items()}

    async def get_secret_object(self, name: str) -> Raw:
        """Return one Secret with its type and version, its data in base64. Raises ``NotFound``,
        ``Forbidden``."""
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
        """Return at most ``limit`` Kubernetes Events (events.k8s.io/v1) about one object. Raises
        ``Forbidden``."""
        query = _query(limit=str(limit), fieldSelector=f"regarding.uid={uid}")
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events?{query}"
        answer = await self._call("GET", path, resource="events", verb="list")
        return tuple(answer.get("items", ()))

    async def whoami(self) -> str:
        """Return the name of the authenticated user (SelfSubjectReview). Raises ``Forbidden`` without
        credentials."""
        answer = await self._call(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            resource="selfsubjectreviews",
            verb="create",
            body=msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
        )
        return str(answer.get("status", {}).get("userInfo", {}).get("username", ""))

    async def is_allowed(self, verb: str, resource: str, *, group: str = GROUP) -> bool:
        """Whether this process may use ``verb`` on ``resource`` in its namespace
        (SelfSubjectAccessReview)."""
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

    # -- Calls of the command-line tools ---------------------------------------------------------------------

    async def server_version(self) -> Raw:
        """Return the version of the API server."""
        return await self._call("GET", "/version", resource="version", verb="get")

    async def list_events(self) -> Sequence[Raw]:
        """Return the Kubernetes Events of the namespace, 500 at most; the API server keeps them for an
        hour."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events?limit=500"
        items: Sequence[Raw] = (await self._call("GET", path, resource="events", verb="list")).get(
            "items", []
        )
        return items

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        """Return the pods that match the label selector."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?{_query(limit='500', labelSelector=labels)}"
        items: Sequence[Raw] = (await self._call("GET", path, resource="pods", verb="list")).get("items", [])
        return items

    async def pod_log(self, name: str, container: str, *, lines: int) -> str:
        """Return the last ``lines`` lines of a container's log."""
        query = _query(container=container, tailLines=str(lines))
        path = f"/api/v1/namespaces/{self.namespace}/pods/{_segment(name)}/log?{query}"
        answer = await self._send("GET", path, resource="pods/log", verb="get")
        return answer.decode(errors="replace")

    # -- Requests -------------------------------------------------------------------------------------------

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
            # Mostly by a caller with a shorter timeout.
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
            raise api_error(status, answer, retry_after, creating=method == "POST")
        return answer

    def _close_idle_connections(self) -> None:
        if isinstance(self._session.connector, ConnectionPool):
            self._session.connector.close_idle()

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "counterfoil"}
        if self._bearer is not None:
            headers["Authorization"] = f"Bearer {self._bearer}"
            return headers
        # Called for each request: the official client refreshes the ServiceAccount's token here.
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
                        raise api_error(int(raw.get("code", 500)), line, None, creating=False)
                    version = raw["metadata"]["resourceVersion"]
                    yield WatchEvent(payload["type"], raw)
            await asyncio.sleep(WATCH_RESTART_INTERVAL_SECONDS)

    async def _lines(self, path: str, resource: str) -> AsyncGenerator[bytes, None]:
        """Yield the lines of one watch request, until the server ends the request, as it does every few
        minutes."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=WATCH_IDLE_TIMEOUT_SECONDS
        )
        status = 0
        try:
            headers = await self._headers()
            async with self._session.get(self._host + path, headers=headers, timeout=timeout) as response:
                status = response.status
                if status >= 400:
                    raise api_error(
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
    Open a client of the API server, and close its connections at the end.

    ``namespace`` of None: the namespace of the pod, or ``default`` outside a pod. Configuration:
    ``kubeconfig`` if given, else ``$KUBECONFIG``, else the pod's ServiceAccount, else ``~/.kube/config``.
    ``context`` names a context of the kubeconfig; None is the current context. ``connections`` is the maximum
    number of open connections.
    """
    configuration = await load_configuration(kubeconfig, context)
    async with aiohttp.ClientSession(
        connector=new_connection_pool(configuration, connections),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
        read_bufsize=2**21,  # one line of a watch is one object
    ) as session:
        yield KubeClient(
            session=session,
            configuration=configuration,
            namespace=namespace or own_namespace(),
            observe=observe,
        )


class TokenClientFactory:
    """
    Creates clients that use a user's bearer token. Created by ``open_token_client_factory``.

    The factory has no credentials, so the API server refuses a request without a token.
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
        """Return a client with the permissions of this token's owner. The token is not checked here."""
        return KubeClient(
            session=self._session,
            configuration=self._configuration,
            namespace=self.namespace,
            observe=self._observe,
            bearer=bearer,
        )

    async def unavailable_reason(self) -> str | None:
        """Return why the API server is unreachable, or None. A refusal (401, 403) shows that it is
        reachable."""
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
    Open a factory of clients without this process's credentials, and close it at the end; otherwise as
    ``connect``.

    The API server would prefer a kubeconfig's client certificate to any token, and every user would act as
    its owner. So only the address and the certificate authority are used.
    """
    own = await load_configuration(kubeconfig)
    bare = Configuration()
    bare.host, bare.proxy = own.host, own.proxy
    for name in ("ssl_ca_cert", "ca_cert_data", "verify_ssl", "disable_strict_ssl_verification"):
        setattr(bare, name, getattr(own, name))
    async with aiohttp.ClientSession(
        connector=new_connection_pool(bare, connections),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield TokenClientFactory(
            session=session,
            configuration=bare,
            namespace=namespace or own_namespace(),
            observe=observe,
        )


def _segment(part: str) -> str:
    """Quote a name as one part of a path. Raises ``NotFound`` for a name that leads to another path, such as
    a list."""
    if part in {"", ".", ".."}:
        raise NotFound(404, "NotFound", f"{part!r} is the name of nothing")
    return quote(part, safe="")


def _query(**parameters: str) -> str:
    return urlencode({key: value for key, value in parameters.items() if value}, safe=",=!")


def _decode(answer: bytes) -> Raw:
    return _decode_as(dict, answer)


def _decode_as(shape: type[PartialT], answer: bytes) -> PartialT:
    try:
        return msgspec.json.decode(answer, type=shape)
    except msgspec.DecodeError:
        # A proxy's page, or a truncated line: the API server itself sends JSON.
        raise Unavailable(0, "NoAnswer", "what answered is not the API server, or was cut off") from None
