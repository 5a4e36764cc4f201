"""
The client of the API server: every request of Counterfoil to Kubernetes goes through this module.

Methods take and return objects as the dicts of their JSON; ``counterfoil.resources`` has the typed forms.
Configuration, TLS and token refresh come from the official client (``kubernetes.aio``). Requests use an
aiohttp session without the generated models and argument checks, which cost 2.5 times the CPU of the request
(docs/decisions/0002).

The client retries nothing. It raises each error as a subclass of ``ApiError``, and the caller decides. It
follows no redirect, and takes no answer of a proxy or a login page for the API server's (``Unavailable``).
Secrets can be read by name only; no method lists or watches them (rule 8).
"""

import asyncio
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence, Set
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException

from counterfoil.kube.answers import (
    PartialT,
    R,
    decode_as,
    foreign_answer,
    object_list,
    parse_readable,
    watch_event,
)
from counterfoil.kube.config import (
    ConnectionPool,
    load_configuration,
    new_connection_pool,
    own_namespace,
    tls_context,
)
from counterfoil.kube.errors import Expired, NotFound, Unavailable, api_error
from counterfoil.kube.page_limits import (
    LARGE_PAGE,
    MAX_PAGE_BYTES,
    SMALL_PAGE,
    PageTooLarge,
    fewer_objects,
    next_limit,
    read_page,
)
from counterfoil.kube.secret import Secret
from counterfoil.kube.watch import WATCH_IDLE_TIMEOUT_SECONDS, WATCH_RESTART_INTERVAL_SECONDS, Raw, WatchEvent
from counterfoil.resources import (
    CONTROLLER_REPORTER,
    GROUP,
    VERSION,
    EnvelopeEvent,
    Resource,
    ResourceInvalid,
)
from counterfoil.resources.lease import SHARD_LEASE_COUNT_LABEL, Lease
from counterfoil.untrusted.background_work import is_background
from counterfoil.untrusted.fair_slots import FairSlots

T = TypeVar("T")

RequestObserver = Callable[[str, str, int], None]
"""Called after every request: verb, resource, HTTP status (0 when there was no response)."""

REQUEST_TIMEOUT_SECONDS = 20.0
"""Timeout for one request. The API server itself ends a request after 60 s, which is too long for callers."""

BACKGROUND_REQUESTS = 2
"""Requests of Imports and their events that one process has at the API server at the same time. Those of
callbacks would wait behind more of them there."""

SECRETS, EVENTS, PODS = ("api/v1", "secrets"), ("apis/events.k8s.io/v1", "events"), ("api/v1", "pods")
CONFIG_MAPS, RESOURCE_QUOTAS = ("api/v1", "configmaps"), ("api/v1", "resourcequotas")
_ADMISSION = "apis/admissionregistration.k8s.io/v1"
POLICIES = (_ADMISSION, "validatingadmissionpolicies")
POLICY_BINDINGS = (_ADMISSION, "validatingadmissionpolicybindings")
"""Kubernetes' own kinds that are used here: API and plural."""

_METHODS = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}
"""HTTP method of each verb of Kubernetes."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
"""Names of Kubernetes, which need no quoting in a path."""

_CONFIRMATIONS = {"create": (201,), "delete": (200, 202)}
"""Statuses by which the API server confirms a request, where not 200. Others are another server's."""


COUNTED_IN_A_ROW = 200
"""Objects of one answer that are counted before other tasks run: some milliseconds with as many
labels as the policies of the chart allow."""

PARSED_IN_A_ROW = 10
"""Objects of a list that are parsed before other tasks run: some milliseconds."""

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Media type of a list without the objects' specs and statuses."""


class NextPage(str):
    """
    The token of the next page of a list.

    It knows how many objects the next page may have (``counterfoil.kube.page_limits``).
    """

    limit: int
    """Objects that the next page should have at most."""
    size: int
    """Bytes of the page in which the token is."""

    @classmethod
    def after(cls, token: str, limit: int, size: int) -> "NextPage":
        """Return the token in a page of ``limit`` objects and ``size`` bytes (empty after the last)."""
        following = cls(token)
        following.limit, following.size = next_limit(limit, size), size
        return following


class _Described(msgspec.Struct):
    name: str = ""
    labels: dict[str, str] = {}


class _ObjectMetadata(msgspec.Struct):
    metadata: _Described


class _ListMetadata(msgspec.Struct, rename={"token": "continue"}):
    token: str = ""


class _MetadataList(msgspec.Struct):
    items: list[msgspec.Raw] | None
    """None if nothing is selected: the API server then writes null."""
    metadata: _ListMetadata


class _GroupVersion(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    name: str
    versions: list[_GroupVersion]


class _GroupList(msgspec.Struct):
    kind: Literal["APIGroupList"]
    groups: list[_Group]


class _ServedResource(msgspec.Struct):
    name: str


class _ResourceList(msgspec.Struct):
    kind: Literal["APIResourceList"]
    resources: list[_ServedResource]


async def count_labels(answer: bytes, label: str | None) -> tuple[Counter[str], str]:
    """
    Count the objects of a list by the value of a label, and return the token of the next page. None: by name.

    The labels of one object at a time are in memory. Raises ``Unavailable`` for an answer of another form.
    """
    page, counted = decode_as(_MetadataList, answer), Counter[str]()
    for number, each in enumerate(page.items or ()):
        if number % COUNTED_IN_A_ROW == 0:
            await asyncio.sleep(0)
        described = decode_as(_ObjectMetadata, each).metadata
        if label is None:
            counted[described.name] += 1
        elif label in described.labels:
            counted[described.labels[label]] += 1
    return counted, page.metadata.token


@dataclass(eq=False, repr=False, kw_only=True)
class KubeClient:
    """Client of the API server for one namespace. Created by ``connect``."""

    session: aiohttp.ClientSession
    watches: aiohttp.ClientSession
    """The session of watches, each of which holds a connection as long as it is open. Their number grows with
    that of the namespaces, so they take no connection of ``session``."""
    configuration: Configuration
    namespace: str
    observe: RequestObserver
    bearer: str | None = None
    """A user's token; None for the credentials of the configuration."""
    impersonated: str | None = None
    """The user in whose name requests are made (``Impersonate-User``); None: the owner of the credentials."""
    server_date: str | None = None
    """The header ``Date`` of the API server's last confirmed response, for ``answers.http_date``; None before
    the first one."""
    server_date_between: tuple[float, float] = (0.0, 0.0)
    """When the request was sent whose response has ``server_date``, and when that came; seconds of
    ``time.monotonic``."""
    background_slots: FairSlots = field(default_factory=lambda: FairSlots(BACKGROUND_REQUESTS))
    """Those of background work, by namespace; the clients of a session share them."""

    def in_namespace(self, namespace: str) -> "KubeClient":
        """Return a client of the same session for another namespace."""
        return replace(self, namespace=namespace)

    def in_all_namespaces(self) -> "KubeClient":
        """Return a client of the same session that lists the objects of all namespaces."""
        return replace(self, namespace="")

    # -- Objects of a kind: Counterfoil's resources and Leases -----------------------------------------------

    async def get(self, kind: type[Resource], name: str) -> Raw:
        """Return one object. Raises ``NotFound``."""
        return await self._object(name, "get", kind.PLURAL, self._path(kind, name))

    async def get_partial(self, kind: type[Resource], name: str, shape: type[PartialT]) -> PartialT:
        """
        Return the fields of one object that ``shape`` declares, in their current state (an uncached read).

        Costs a fraction of ``get``, since the decoder skips all other fields. Raises ``NotFound``.
        """
        return decode_as(shape, await self._send("get", kind.PLURAL, self._path(kind, name)))

    async def create(self, kind: type[Resource], body: Mapping[str, Any]) -> Raw:
        """Store a new object and return it. Raises ``AlreadyExists``, ``Rejected``."""
        name = body.get("metadata", {}).get("name")
        return await self._object(name, "create", kind.PLURAL, self._path(kind), body)

    async def create_from_json(self, kind: type[Resource], body: bytes, shape: type[PartialT]) -> PartialT:
        """Store a new object given as JSON; return the fields of ``shape``. Raises as ``create``."""
        return decode_as(shape, await self._send("create", kind.PLURAL, self._path(kind), body))

    async def create_dry_run(self, kind: type[Resource], body: bytes) -> None:
        """Check that a new object could be stored, without storing it (``dryRun=All``). Raises as
        ``create``."""
        await self._call("create", kind.PLURAL, f"{self._path(kind)}?dryRun=All", body)

    async def patch(self, kind: type[Resource], name: str, changes: Mapping[str, Any]) -> Raw:
        """Merge ``changes`` into the object except its status. Raises ``NotFound``, ``Conflict``,
        ``Rejected``."""
        return await self._object(name, "patch", kind.PLURAL, self._path(kind, name), changes)

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        """
        Merge ``status`` into the object's status if the object is still at ``resource_version`` (None:
        always).

        The API server refuses a field of an event that its CustomResourceDefinition lacks. It would drop it
        silently, and a mark that says why a hash is not proved must not be lost.

        Raises ``Conflict`` when another client wrote since, so that a worker with old data does not
        overwrite. Raises ``Rejected``.
        """
        changes: Raw = {"status": status}
        if resource_version is not None:
            changes["metadata"] = {"resourceVersion": resource_version}
        path = self._path(kind, name, "status") + ("?fieldValidation=Strict" if kind is EnvelopeEvent else "")
        return await self._object(name, "patch", f"{kind.PLURAL}/status", path, changes)

    async def delete(
        self, kind: type[Resource], name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        """Delete one object if ``uid`` and ``resource_version`` still match. Raises ``NotFound``,
        ``Conflict``."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body = {"preconditions": {key: value for key, value in preconditions.items() if value is not None}}
        await self._call("delete", kind.PLURAL, self._path(kind, name), body)

    async def page(
        self, kind: type[Resource], *, limit: int, token: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Raw], str]:
        """
        Return at most ``limit`` objects and the token of the next page (empty after the last); fewer if they
        are large. A page after those knows how many had room.

        Raises ``Expired``.
        """
        answer, token = await self._request_page(kind, limit=limit, token=token, labels=labels, fields=fields)
        return answer["items"], token

    async def continued_page(
        self, kind: type[Resource], *, limit: int, token: str, labels: str = ""
    ) -> tuple[list[Raw], str]:
        """
        Return the next page as ``page`` does, for a pass of any duration.

        A token is valid for 5 minutes. A longer pass continues with the current state. Raises ``Expired`` if
        the API server does not give another token.
        """
        try:
            return await self.page(kind, limit=limit, token=token, labels=labels)
        except Expired as expired:
            if not expired.token:
                raise
            return await self.page(kind, limit=limit, token=expired.token, labels=labels)

    async def first(
        self,
        kind: type[Resource],
        parse: Callable[[Sequence[Raw]], Iterable[T]],
        *,
        limit: int,
        labels: str = "",
        fields: str = "",
        most: int = MAX_PAGE_BYTES,
        enough: int | None = None,
    ) -> tuple[Sequence[T], bool]:
        """
        Return what ``parse`` makes of the first ``limit`` objects, and whether there are more.

        All pages together have ``most`` bytes at most, and one object more: a user who may write objects
        chooses their size. Each page is parsed before the next one is requested. Give more than the default
        only with a ``parse`` that keeps little. After ``enough`` results no further page is read.
        """
        found, read, size, token = list[T](), 0, 0, ""
        while True:
            answer, token = await self._request_page(
                kind,
                limit=min(limit - read, LARGE_PAGE),
                token=token,
                labels=labels,
                fields=fields,
                most=min(most - size, MAX_PAGE_BYTES),
            )
            found += parse(answer["items"])
            read, size = read + len(answer["items"]), size + token.size
            is_enough = enough is not None and len(found) >= enough
            if not token or read >= limit or size >= most or is_enough:
                return found, bool(token)
            # Else it would be in memory beside the next page.
            del answer

    async def list(
        self, kind: type[Resource], *, labels: str = "", fields: str = "", limit: int = LARGE_PAGE
    ) -> AsyncIterator[Raw]:
        """Yield all objects, page by page, so that at most one page is in memory."""
        token = ""
        while True:
            items, token = await self.page(kind, limit=limit, token=token, labels=labels, fields=fields)
            for item in items:
                yield item
            if not token:
                return
            # Else it would be in memory beside the next page.
            del items

    async def list_readable(self, kind: type[R], *, labels: str = "", fields: str = "") -> AsyncIterator[R]:
        """Yield the objects of ``list`` that can be read; a warning names each other one."""
        async for _, resource in self.list_parsed(kind, labels=labels, fields=fields):
            if resource is not None:
                yield resource

    async def list_parsed(
        self, kind: type[R], *, labels: str = "", fields: str = "", limit: int = SMALL_PAGE
    ) -> AsyncIterator[tuple[Raw, R | None]]:
        """Yield each object of ``list``, and the same parsed; None for one that can't be read. A warning
        names it: it is not gone."""
        number = 0
        async for raw in self.list(kind, labels=labels, fields=fields, limit=limit):
            yield raw, parse_readable(kind, raw)
            number += 1
            if number % PARSED_IN_A_ROW == 0:
                await asyncio.sleep(0)

    async def count_by_label(
        self, kind: type[Resource], label: str, fields: str, *, labels: str = ""
    ) -> Counter[str]:
        """
        Count objects by the value of a label; those without the label are not counted. ``labels`` and
        ``fields`` select them.

        The API server answers from its memory (resourceVersion 0), with the metadata only. It has no limit
        for such an answer, and no way to leave out managedFields. So an answer of more than
        ``MAX_PAGE_BYTES`` is not read to its end, and the objects are counted in pages.
        """
        return await self._count(kind, label, labels=labels, fields=fields)

    async def names(self, kind: type[Resource], fields: str) -> Set[str]:
        """Return the names of the objects that ``fields`` select, from the answers that ``count_by_label``
        reads."""
        return (await self._count(kind, None, labels="", fields=fields)).keys()

    async def _count(
        self, kind: type[Resource] | tuple[str, str], label: str | None, *, labels: str, fields: str
    ) -> Counter[str]:
        query = _query(
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion="0",
            resourceVersionMatch="NotOlderThan",
        )
        path = f"{self._path(kind)}?{query}"
        try:
            answer = await self._send("list", _plural(kind), path, accept=_METADATA_ONLY, most=MAX_PAGE_BYTES)
        except PageTooLarge:
            return await self._count_in_pages(kind, label, labels=labels, fields=fields)
        counted, _ = await count_labels(answer, label)
        return counted

    async def _count_in_pages(
        self, kind: type[Resource] | tuple[str, str], label: str | None, *, labels: str, fields: str
    ) -> Counter[str]:
        counted, token = Counter[str](), ""
        while True:
            body, limit = await self._request_bounded(
                kind,
                # Each further page has as many objects as have room.
                limit=0 if token else SMALL_PAGE,
                token=token,
                labels=labels,
                fields=fields,
                most=MAX_PAGE_BYTES,
                accept=_METADATA_ONLY,
            )
            found, following = await count_labels(body, label)
            counted.update(found)
            token = NextPage.after(following, limit, len(body))
            if not token:
                return counted

    async def total(self, kind: type[Resource]) -> int:
        """Count all objects of a kind. The API server counts them, and sends one."""
        answer, _ = await self._request_page(kind, limit=1, token="", labels="", fields="")
        return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount") or 0)

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
                answer, token = await self._request_page(
                    kind, limit=LARGE_PAGE, token=token, labels=labels, fields=fields
                )
                for item in answer["items"]:
                    names.add(item["metadata"]["name"])
                    yield WatchEvent("ADDED", item)
                version = answer["metadata"]["resourceVersion"]
                del answer
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

    async def shard_leases(self) -> tuple[Lease, ...]:
        """Return the Leases of the shards. Raises ``Forbidden``."""
        try:
            leases, _ = await self.first(
                Lease, partial(map, Lease.parse), limit=LARGE_PAGE, labels=SHARD_LEASE_COUNT_LABEL
            )
        except ResourceInvalid:
            raise foreign_answer("it did not send the Leases of the shards") from None
        return tuple(leases)

    # -- Kubernetes' own kinds ------------------------------------------------------------------------------

    async def secret(self, name: str) -> Secret:
        """Return one Secret. Raises ``NotFound``, ``Forbidden``."""
        raw = await self._object(name, "get", "secrets", self._path(SECRETS, name))
        try:
            return Secret.parse(raw)
        except ResourceInvalid:
            # Without its cause: nothing of a Secret may be in an error.
            raise foreign_answer(f"it did not send the Secret {name!r}") from None

    async def create_secret(self, body: Mapping[str, Any]) -> None:
        """Store a new Secret. Raises ``AlreadyExists``, ``Rejected``, ``Forbidden``."""
        secret = {"apiVersion": "v1", "kind": "Secret", **body}
        await self._object(body["metadata"]["name"], "create", "secrets", self._path(SECRETS), secret)

    async def patch_secret(self, name: str, changes: Mapping[str, Any]) -> None:
        """Merge ``changes`` into a Secret. Raises ``NotFound``, ``Conflict``, ``Rejected``, ``Forbidden``."""
        await self._object(name, "patch", "secrets", self._path(SECRETS, name), changes)

    async def config_map(self, name: str) -> Raw:
        """Return one ConfigMap. Raises ``NotFound``, ``Forbidden``."""
        return await self._object(name, "get", "configmaps", self._path(CONFIG_MAPS, name))

    async def patch_config_map(self, name: str, changes: Mapping[str, Any]) -> Raw:
        """Merge ``changes`` into a ConfigMap and return it. Raises ``NotFound``, ``Conflict``,
        ``Forbidden``."""
        return await self._object(name, "patch", "configmaps", self._path(CONFIG_MAPS, name), changes)

    async def create_event(self, body: Mapping[str, Any]) -> None:
        """Post a Kubernetes Event (events.k8s.io/v1)."""
        await self._send("create", "events", self._path(EVENTS), body)

    async def events_regarding(self, uid: str, *, limit: int) -> Sequence[Raw]:
        """
        Return at most ``limit`` Kubernetes Events (events.k8s.io/v1) of the controller about one object.

        Everybody with the right to create Events can write one about any object, so those of other reporters
        are no history. The API server leaves them out, so that they do not count towards ``limit``. Raises
        ``Forbidden``.
        """
        selector = f"regarding.uid={uid},reportingController={CONTROLLER_REPORTER}"
        return await self._items(EVENTS, limit=limit, fields=selector)

    async def whoami(self) -> str:
        """Return the name of the authenticated user (SelfSubjectReview). Raises ``Forbidden`` without
        credentials."""
        status = await self._review("authentication.k8s.io", "SelfSubjectReview")
        return str(status.get("userInfo", {}).get("username", ""))

    async def is_allowed(self, verb: str, resource: str, *, group: str = GROUP) -> bool:
        """Whether this process may use ``verb`` on ``resource``, such as ``senders`` or ``senders/status``,
        in its namespace (SelfSubjectAccessReview)."""
        resource, _, subresource = resource.partition("/")
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        if subresource:
            attributes["subresource"] = subresource
        spec = {"resourceAttributes": attributes}
        return bool(
            (await self._review("authorization.k8s.io", "SelfSubjectAccessReview", spec=spec)).get("allowed")
        )

    # -- Calls of the command-line tools ---------------------------------------------------------------------

    async def server_version(self) -> Raw:
        """Return the version of the API server."""
        return await self._call("get", "version", "/version")

    async def served_resources(self, group: str, version: str) -> Sequence[Raw]:
        """Return the resources of a group that the API server has. Raises ``ApiError`` with status 404 for an
        unknown group."""
        answer = await self._call("get", "apis", f"/apis/{group}/{version}")
        return tuple(each for each in answer.get("resources", ()) if "/" not in each["name"])

    async def serves(self, kind: type[Resource]) -> bool:
        """Return whether the API server has a kind, by its own lists of what it has. Raises ``ApiError``."""
        groups = decode_as(_GroupList, await self._send("get", "apis", "/apis")).groups
        versions = (each.version for group in groups if group.name == GROUP for each in group.versions)
        if VERSION not in versions:
            return False
        served = decode_as(_ResourceList, await self._send("get", "apis", f"/apis/{GROUP}/{VERSION}"))
        return any(each.name == kind.PLURAL for each in served.resources)

    async def list_events(self) -> Sequence[Raw]:
        """Return the Kubernetes Events of the namespace, 500 at most; the API server keeps them for an
        hour."""
        return await self._items(EVENTS, limit=LARGE_PAGE)

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        """Return the pods that match the label selector."""
        return await self._items(PODS, limit=LARGE_PAGE, labels=labels)

    async def resource_quotas(self) -> Sequence[Raw]:
        """Return the ResourceQuotas."""
        return await self._items(RESOURCE_QUOTAS, limit=LARGE_PAGE)

    async def admission_policies(self, *, labels: str) -> Set[str]:
        """Return the names of the ValidatingAdmissionPolicies that match the label selector and have a
        binding of the same name. Raises ``Forbidden`` without rights to the cluster."""
        everywhere = self.in_all_namespaces()
        policies, bindings = [
            await everywhere._count(kind, None, labels=labels, fields="")
            for kind in (POLICIES, POLICY_BINDINGS)
        ]
        return policies.keys() & bindings.keys()

    async def pod_log(self, name: str, container: str, *, lines: int) -> str:
        """Return the last ``lines`` lines of a container's log."""
        path = f"{self._path(PODS, name, 'log')}?{_query(container=container, tailLines=str(lines))}"
        return (await self._send("get", "pods/log", path)).decode(errors="replace")

    # -- Requests -------------------------------------------------------------------------------------------

    def _path(self, kind: type[Resource] | tuple[str, str], *parts: str) -> str:
        """Return a path in the namespace. A kind that is not Counterfoil's is its API and its plural."""
        api, plural = kind if isinstance(kind, tuple) else (f"apis/{kind.API_VERSION}", kind.PLURAL)
        return "/".join([f"/{api}/{self._place}{plural}", *map(_segment, parts)])

    @cached_property
    def _place(self) -> str:
        """The part of a path that names the namespace, which a status may have chosen
        (``kube/shard_leases.py``)."""
        return f"namespaces/{_segment(self.namespace)}/" if self.namespace else ""

    async def _request_page(
        self,
        kind: type[Resource],
        *,
        limit: int,
        token: str,
        labels: str,
        fields: str,
        most: int = MAX_PAGE_BYTES,
    ) -> tuple[Raw, NextPage]:
        """Return a page of at most ``limit`` objects (0: all), or of fewer if that has more than ``most``
        bytes: who fills statuses chooses their size. Return also the token of the next page."""
        body, fitting = await self._request_bounded(
            kind, limit=limit, token=token, labels=labels, fields=fields, most=most
        )
        page = object_list(decode_as(dict, body))
        return page, NextPage.after(page["metadata"].get("continue", ""), fitting, len(body))

    async def _request_bounded(
        self,
        kind: type[Resource] | tuple[str, str],
        *,
        limit: int,
        token: str,
        labels: str,
        fields: str,
        most: int,
        accept: str | None = None,
    ) -> tuple[bytes, int]:
        """Return a page as it came, and how many objects were requested."""
        fitting = min(limit or token.limit, token.limit) if isinstance(token, NextPage) else limit
        while True:
            query = _query(
                limit=str(fitting), **{"continue": token}, labelSelector=labels, fieldSelector=fields
            )
            path, bound = f"{self._path(kind)}?{query}", None if fitting == 1 else most
            try:
                return await self._send("list", _plural(kind), path, accept=accept, most=bound), fitting
            except PageTooLarge:
                fitting = fewer_objects(fitting)

    async def _items(
        self, kind: tuple[str, str], *, limit: int, labels: str = "", fields: str = ""
    ) -> Sequence[Raw]:
        """Return the first objects, at most ``limit``; fewer if they have more than ``MAX_PAGE_BYTES``."""
        body, _ = await self._request_bounded(
            kind, limit=limit, token="", labels=labels, fields=fields, most=MAX_PAGE_BYTES
        )
        return tuple(object_list(decode_as(dict, body))["items"])

    async def _review(self, group: str, kind: str, **fields: Any) -> Raw:
        """Create a review and return its status, which is the answer of the API server."""
        plural = f"{kind.lower()}s"
        body = {"apiVersion": f"{group}/v1", "kind": kind, **fields}
        answer = await self._call("create", plural, f"/apis/{group}/v1/{plural}", body)
        return cast("Raw", answer.get("status", {}))

    async def _call(
        self, verb: str, resource: str, path: str, body: Mapping[str, Any] | bytes | None = None
    ) -> Raw:
        answer = decode_as(dict, await self._send(verb, resource, path, body))
        return object_list(answer) if verb == "list" else answer

    async def _object(
        self, name: object, verb: str, resource: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Raw:
        """Return an answer that is the object of this name. Raises ``Unavailable`` for any other JSON."""
        answer = await self._call(verb, resource, path, body)
        metadata = answer.get("metadata")
        if not isinstance(metadata, dict) or metadata.get("name") != name:
            raise foreign_answer(f"it did not send the object {name!r}")
        return answer

    async def _send(
        self,
        verb: str,
        resource: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        accept: str | None = None,
        most: int | None = None,
    ) -> bytes:
        """Send a request, in the background once there is a slot; return the answer. Raises ``PageTooLarge``
        for one of more than ``most`` bytes."""
        if not is_background():
            return await self._exchange(verb, resource, path, body, accept=accept, most=most)
        async with self.background_slots.slot(self.namespace):
            return await self._exchange(verb, resource, path, body, accept=accept, most=most)

    async def _exchange(
        self,
        verb: str,
        resource: str,
        path: str,
        body: Mapping[str, Any] | bytes | None,
        *,
        accept: str | None,
        most: int | None,
    ) -> bytes:
        headers = await self._headers()
        if accept is not None:
            headers["Accept"] = accept
        if body is not None:
            headers["Content-Type"] = (
                "application/merge-patch+json" if verb == "patch" else "application/json"
            )
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        status, sent = 0, time.monotonic()
        try:
            async with self.session.request(
                _METHODS[verb], self._url(path), data=data, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
                answer = await _read(response, most)
                retry_after, date = response.headers.get("Retry-After"), response.headers.get("Date")
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
            self.observe(verb, resource, status)
        if status >= 400:
            raise api_error(status, answer, retry_after, creating=verb == "create")
        if status not in _CONFIRMATIONS.get(verb, (200,)):
            raise foreign_answer(f"it answered {status}")
        self.server_date, self.server_date_between = date, (sent, time.monotonic())
        return answer

    def _close_idle_connections(self) -> None:
        for each in (self.session, self.watches):
            if isinstance(each.connector, ConnectionPool):
                each.connector.close_idle()

    def _url(self, path: str) -> str:
        return self.configuration.host.rstrip("/") + path

    async def authorization(self) -> dict[str, str]:
        """
        Return the headers of a request that authenticate it.

        Call it for each request: the token of a ServiceAccount changes. Raises ``Unavailable`` while the
        token can't be read.
        """
        if self.bearer is not None:
            return {"Authorization": f"Bearer {self.bearer}"}
        try:
            # The official client reads the token of the ServiceAccount again here, once a minute.
            auth = cast("Mapping[str, Mapping[str, str]]", await self.configuration.auth_settings())
        except (ConfigException, OSError) as unreadable:
            message = f"the credentials can't be read ({type(unreadable).__name__})"
            raise Unavailable(0, "NoCredentials", message) from unreadable
        return {setting["key"]: setting["value"] for setting in auth.values()}

    async def _headers(self) -> dict[str, str]:
        impersonation = {"Impersonate-User": self.impersonated} if self.impersonated is not None else {}
        return {
            "Accept": "application/json",
            "User-Agent": "counterfoil",
            **impersonation,
            **await self.authorization(),
        }

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
                    change = watch_event(line)
                    version = change.raw["metadata"]["resourceVersion"]
                    yield change
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
            async with self.watches.get(
                self._url(path), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                status = response.status
                if status >= 400:
                    raise api_error(
                        status, await response.read(), response.headers.get("Retry-After"), creating=False
                    )
                if status != 200:
                    raise foreign_answer(f"it answered {status}")
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
            raise Unavailable(0, "NoAnswer", f"the watch broke ({type(trouble).__name__})") from trouble
        finally:
            self.observe("watch", resource, status)


@asynccontextmanager
async def connect(
    *,
    namespace: str | None = None,
    kubeconfig: Path | None = None,
    context: str | None = None,
    observe: RequestObserver = lambda verb, resource, status: None,
    connections: int = 128,
    impersonated: str | None = None,
    request_seconds: float = REQUEST_TIMEOUT_SECONDS,
) -> AsyncIterator[KubeClient]:
    """
    Open a client of the API server, and close its connections at the end.

    ``namespace`` of None: the namespace of the pod, or ``default`` outside a pod. Configuration:
    ``kubeconfig`` if given, else ``$KUBECONFIG``, else the pod's ServiceAccount, else ``~/.kube/config``.
    ``context`` names a context of the kubeconfig; None is the current context. ``connections`` is the maximum
    number of open connections, to which each open watch adds one. ``impersonated`` is the user in whose name
    requests are made, and ``request_seconds`` the time after which one fails.
    """
    configuration = await load_configuration(kubeconfig, context)
    tls = tls_context(configuration)
    async with _new_session(tls, connections, request_seconds) as session, _new_session(tls, 0) as watches:
        yield KubeClient(
            session=session,
            watches=watches,
            configuration=configuration,
            namespace=namespace or own_namespace(),
            observe=observe,
            impersonated=impersonated,
        )


class TokenClientFactory:
    """
    Creates clients that use a user's bearer token. Created by ``open_token_client_factory``.

    The factory has no credentials, so the API server refuses a request without a token.
    """

    def __init__(self, anonymous: KubeClient) -> None:
        self._anonymous = anonymous

    @property
    def namespace(self) -> str:
        """The namespace of its clients, where no other is given."""
        return self._anonymous.namespace

    def client_for(self, bearer: str, namespace: str | None = None) -> KubeClient:
        """Return a client with the permissions of this token's owner, for this factory's namespace or another
        one. The token is not checked here."""
        return replace(self._anonymous, bearer=bearer, namespace=namespace or self.namespace)

    async def unavailable_reason(self) -> str | None:
        """Return why the API server is unreachable, or None. A refusal (401, 403) shows that it is
        reachable."""
        url = f"{self._anonymous.configuration.host.rstrip('/')}/version"
        try:
            async with self._anonymous.session.get(url, allow_redirects=False) as response:
                is_its_own = response.status == 200 or 400 <= response.status < 500
                return None if is_its_own else f"the API server answered {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
            return f"the API server did not answer ({type(trouble).__name__})"


@asynccontextmanager
async def open_token_client_factory(
    *, namespace: str | None, observe: RequestObserver, connections: int
) -> AsyncIterator[TokenClientFactory]:
    """
    Open a factory of clients without this process's credentials, and close it at the end; otherwise as
    ``connect``.

    The API server would prefer a kubeconfig's client certificate to any token, and every user would act as
    its owner. So only the address and the certificate authority are used.
    """
    own = await load_configuration(None)
    bare = Configuration()
    bare.host, bare.proxy = own.host, own.proxy
    for name in ("ssl_ca_cert", "ca_cert_data", "verify_ssl", "disable_strict_ssl_verification"):
        setattr(bare, name, getattr(own, name))
    async with _new_session(tls_context(bare), connections, cookie_jar=aiohttp.DummyCookieJar()) as session:
        # No person watches anything.
        anonymous = KubeClient(
            session=session,
            watches=session,
            configuration=bare,
            namespace=namespace or own_namespace(),
            observe=observe,
        )
        yield TokenClientFactory(anonymous)


def _new_session(
    tls: ssl.SSLContext,
    connections: int,
    request_seconds: float = REQUEST_TIMEOUT_SECONDS,
    **options: Any,
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=new_connection_pool(tls, connections),
        timeout=aiohttp.ClientTimeout(total=request_seconds),
        read_bufsize=2**21,  # one line of a watch is one object
        **options,
    )


async def _read(response: aiohttp.ClientResponse, most: int | None) -> bytes:
    """Return the body, unpacked. Raises ``PageTooLarge`` if it has more than ``most`` bytes."""
    if most is None or response.status >= 400:
        return await response.read()
    try:
        return await read_page(response.content, most)
    except PageTooLarge:
        # The rest is not read, so the connection can't be used again.
        response.close()
        raise


def _plural(kind: type[Resource] | tuple[str, str]) -> str:
    return kind[1] if isinstance(kind, tuple) else kind.PLURAL


def _segment(part: str) -> str:
    """Quote a name as one part of a path. Raises ``NotFound`` for a name that leads to another path, such as
    a list."""
    if _PLAIN_NAME.fullmatch(part) is not None:
        return part
    if part in {"", ".", ".."}:
        raise NotFound(404, "NotFound", f"{part!r} is the name of nothing")
    return quote(part, safe="")


def _query(**parameters: str) -> str:
    return urlencode({key: value for key, value in parameters.items() if value}, safe=",=!")
