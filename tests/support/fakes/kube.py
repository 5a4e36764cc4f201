"""
An API server in memory, with the interface of ``KubeClient`` and as strict about versions as the real one.

Whole objects in and out as dicts, merge patches, resourceVersion preconditions, and outages on demand.
"""

import asyncio
import itertools
import pickle
import re
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from counterfoil.kube.answers import PartialT
from counterfoil.kube.client import KubeClient, NextPage
from counterfoil.kube.errors import AlreadyExists, ApiError, Conflict, NotFound, Unavailable, api_error
from counterfoil.kube.page_limits import MAX_PAGE_BYTES
from counterfoil.kube.secret import USE_LABEL, Secret
from counterfoil.kube.watch import Raw, WatchEvent
from counterfoil.resources import CONTROLLER_REPORTER, GROUP, EnvelopeEvent, Resource
from counterfoil.resources.base import ObjectMeta

T = TypeVar("T")
Where = tuple[str, str]


class InMemoryKubeClient(KubeClient):
    """Keeps objects, and lets a test look at every write."""

    def __init__(self, *resources: Resource) -> None:
        self.namespace = "tests"
        self.objects: dict[Where, Raw] = {}
        self.secrets: dict[str, dict[str, bytes]] = {}
        self.secret_uses: dict[str, str] = {}
        """Value of the label ``counterfoil.dev/use`` by name of a Secret; also before it exists."""
        self.secret_types: dict[str, str] = {}
        """Type by name of a Secret; Opaque if it is not here."""
        self.secret_annotations: dict[str, dict[str, str]] = {}
        self.secret_created: dict[str, datetime] = {}
        self.announced: list[Raw] = []
        self.asked: list[tuple[str, str]] = []
        """Verb and name of every request."""
        self.patches: list[tuple[str, Raw]] = []
        """Name and changes of every status that was written."""
        self.changes: asyncio.Queue[WatchEvent] = asyncio.Queue()
        """Changes that ``list_and_watch`` yields, in order."""
        self.answering = asyncio.Event()
        """While it is not set, statuses are stored, but the writer gets no response."""
        self.answering.set()
        self.trouble: dict[str, ApiError] = {}
        """By verb: the answer to each request, while it is set."""
        self.lost: dict[str, ApiError] = {}
        """By verb: raised once, after a request was carried out."""
        self.refused: dict[Where, ApiError] = {}
        """By verb and name: the answer to each request about one object."""
        self.lacked: set[str] = set()
        """The plurals of the kinds without a CustomResourceDefinition."""
        self.not_allowed: set[tuple[str, str]] = set()
        """Verb and resource of what a review of rights denies. Requests are answered all the same."""
        self.unknown_status_fields: set[str] = set()
        """Fields of a status that the CRD does not have, so that the API server drops them."""
        self.quotas: list[Raw] = []
        """The ResourceQuotas of the namespace."""
        self.stored_pods: list[Raw] = []
        """The pods of Counterfoil."""
        self.policies: set[str] = set()
        """The names of the admission policies of all releases."""
        self.server_date: str | None = None
        self.at_request: Callable[[str, str], None] = lambda verb, name: None
        """Called with verb and name of each request, before it is carried out."""
        self.at_answer: Callable[[str], None] = lambda verb: None
        """Called with the verb of each change that was carried out, before it is answered."""
        self._problems: defaultdict[str, list[ApiError]] = defaultdict(list)
        self._before: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._versions = itertools.count(101)
        for each in resources:
            self.put(each)

    # -- What a test does to it ------------------------------------------------------------------------------

    def put(self, resource: Resource) -> None:
        """Store an object as it is."""
        self.objects[resource.PLURAL, resource.name] = resource.to_dict()

    def put_secret(self, name: str, use: str, data: dict[str, bytes]) -> None:
        """Store a Secret with the label that allows its use."""
        self.secret_uses[name] = use
        self.secrets[name] = data

    def count(self, verb: str) -> int:
        """Return the number of requests with that verb."""
        return sum(each == verb for each, _ in self.asked)

    def stored(self, name: str) -> EnvelopeEvent:
        """Return an event as it is stored."""
        return EnvelopeEvent.parse(self.objects[EnvelopeEvent.PLURAL, name])

    def status(self, kind: type[Resource], name: str) -> Raw:
        """Return a stored status."""
        found: Raw = self.objects[kind.PLURAL, name].get("status", {})
        return found

    def edit(self, kind: type[Resource], name: str, changes: Mapping[str, Any]) -> None:
        """Change an object as somebody else would, which moves its version."""
        self._merge(self._at(kind, name), changes)

    def fail(self, verb: str, *problems: ApiError) -> None:
        """Let the next requests of this verb fail, one after the other."""
        self._problems[verb] += problems

    def remove_definition(self, kind: type[Resource]) -> None:
        """Delete the CustomResourceDefinition of a kind, and its objects with it; its path is unknown."""
        self.lacked.add(kind.PLURAL)
        self.objects = {where: raw for where, raw in self.objects.items() if where[0] != kind.PLURAL}

    def add_definition(self, kind: type[Resource]) -> None:
        """Have the CustomResourceDefinition of a kind again."""
        self.lacked.discard(kind.PLURAL)

    def go_away(self, verb: str, times: int) -> None:
        """Be unavailable for this number of requests of this verb."""
        self.fail(verb, *[Unavailable(0, "NoAnswer", "the API server did not answer")] * times)

    def recover(self) -> None:
        """Answer all further requests."""
        self._problems.clear()

    def just_before(self, verb: str, act: Callable[[], None]) -> None:
        """Let something happen just before the next request of this verb is done."""
        self._before[verb].append(act)

    # -- Cluster ---------------------------------------------------------------------------------------------

    async def get(self, kind: type[Resource], name: str) -> Raw:
        await self._arrive("get", name)
        return copied(self._at(kind, name))

    async def get_partial(self, kind: type[Resource], name: str, shape: type[PartialT]) -> PartialT:
        await self._arrive("get_partial", name)
        return msgspec.convert(self._at(kind, name), shape)

    async def create(self, kind: type[Resource], body: Mapping[str, Any]) -> Raw:
        name = body["metadata"]["name"]
        await self._arrive("create", name)
        self._require_definition(kind)
        if (kind.PLURAL, name) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", f"{name} exists")
        raw = copied(dict(body))
        version = str(next(self._versions))
        raw["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": version, "generation": 1}
        self.objects[kind.PLURAL, name] = raw
        self._answer("create")
        return copied(raw)

    async def create_from_json(self, kind: type[Resource], body: bytes, shape: type[PartialT]) -> PartialT:
        return msgspec.convert(await self.create(kind, msgspec.json.decode(body)), shape)

    async def create_dry_run(self, kind: type[Resource], body: bytes) -> None:
        await self._arrive("create_dry_run", msgspec.json.decode(body)["metadata"]["name"])
        self._require_definition(kind)

    async def patch(self, kind: type[Resource], name: str, changes: Mapping[str, Any]) -> Raw:
        await self._arrive("patch", name)
        version = changes.get("metadata", {}).get("resourceVersion")
        return self._patched(kind, name, changes, version)

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        await self._arrive("patch_status", name)
        raw = self._patched(kind, name, {"status": status}, resource_version)
        self.patches.append((name, dict(status)))
        self._answer("patch_status")
        await self.answering.wait()
        return raw

    async def delete(
        self, kind: type[Resource], name: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        await self._arrive("delete", name)
        found = self._at(kind, name)["metadata"]
        if uid not in (None, found.get("uid")) or resource_version not in (None, found["resourceVersion"]):
            raise Conflict(409, "Conflict", "it is another one by now")
        del self.objects[kind.PLURAL, name]

    async def page(
        self, kind: type[Resource], *, limit: int, token: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Raw], str]:
        await self._arrive("page", kind.PLURAL)
        self._require_definition(kind)
        chosen = [
            copied(raw)
            for (plural, _), raw in sorted(self.objects.items())
            if plural == kind.PLURAL and _has_labels(raw, labels) and _has_fields(raw, fields)
        ]
        start, limit = int(token or 0), limit or len(chosen)
        more = str(start + limit) if start + limit < len(chosen) else ""
        return chosen[start : start + limit], more

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
        items, token = await self.page(kind, limit=limit, token=token, labels=labels, fields=fields)
        page = {"items": items, "metadata": {"continue": token}}
        return page, NextPage.after(token, limit, len(msgspec.json.encode(page)))

    async def count_by_label(
        self, kind: type[Resource], label: str, fields: str, *, labels: str = ""
    ) -> Counter[str]:
        await self._arrive("count_by_label", kind.PLURAL)
        self._require_definition(kind)
        found = [raw for (plural, _), raw in self.objects.items() if plural == kind.PLURAL]
        chosen = [raw for raw in found if _has_labels(raw, labels) and _has_fields(raw, fields)]
        counted = [raw["metadata"].get("labels", {}) for raw in chosen]
        return Counter(each[label] for each in counted if label in each)

    async def serves(self, kind: type[Resource]) -> bool:
        await self._arrive("serves", kind.PLURAL)
        return kind.PLURAL not in self.lacked

    async def names(self, kind: type[Resource], fields: str) -> Set[str]:
        await self._arrive("names", kind.PLURAL)
        self._require_definition(kind)
        found = self.objects.items()
        return {name for (plural, name), raw in found if plural == kind.PLURAL and _has_fields(raw, fields)}

    async def total(self, kind: type[Resource]) -> int:
        await self._arrive("total", kind.PLURAL)
        self._require_definition(kind)
        return sum(plural == kind.PLURAL for plural, _ in self.objects)

    async def list_and_watch(
        self, kind: type[Resource], *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        self._require_definition(kind)
        while True:
            yield await self.changes.get()

    async def secret(self, name: str) -> Secret:
        await self._arrive("secret", name)
        if name not in self.secrets:
            raise NotFound(404, "NotFound", f"secrets {name!r} not found")
        labels = {USE_LABEL: self.secret_uses[name]} if name in self.secret_uses else {}
        annotations = self.secret_annotations.get(name, {})
        return Secret(
            metadata=ObjectMeta(
                name=name,
                labels=labels,
                annotations=annotations,
                creation_timestamp=self.secret_created.get(name),
            ),
            type=self.secret_types.get(name, "Opaque"),
            data=dict(self.secrets[name]),
        )

    async def whoami(self) -> str:
        return "jane"

    async def is_allowed(self, verb: str, resource: str, *, group: str = GROUP) -> bool:
        await self._arrive("is_allowed", resource)
        return (verb, resource) not in self.not_allowed

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        return self.stored_pods

    async def admission_policies(self, *, labels: str) -> Set[str]:
        await self._arrive("admission_policies", "")
        return self.policies

    async def resource_quotas(self) -> Sequence[Raw]:
        await self._arrive("resource_quotas", "")
        return self.quotas

    async def create_event(self, body: Mapping[str, Any]) -> None:
        await self._arrive("create_event", body["metadata"]["name"])
        self.announced.append(dict(body))

    async def events_regarding(self, uid: str, *, limit: int) -> Sequence[Raw]:
        await self._arrive("events_regarding", uid)
        return [
            each
            for each in self.announced
            if each.get("regarding", {}).get("uid") == uid
            and each.get("reportingController") == CONTROLLER_REPORTER
        ][:limit]

    # -- How -------------------------------------------------------------------------------------------------

    async def _arrive(self, verb: str, name: str) -> None:
        """Take a request; a subclass may let others run before it begins."""
        self.asked.append((verb, name))
        self.at_request(verb, name)
        self._begin(verb, name)

    def _begin(self, verb: str, name: str) -> None:
        if self._before[verb]:
            self._before[verb].pop(0)()
        if self._problems[verb]:
            raise self._problems[verb].pop(0)
        if verb in self.trouble:
            raise self.trouble[verb]
        if (verb, name) in self.refused:
            raise self.refused[verb, name]

    def _answer(self, verb: str) -> None:
        self.at_answer(verb)
        if verb in self.lost:
            raise self.lost.pop(verb)

    def _require_definition(self, kind: type[Resource]) -> None:
        if kind.PLURAL in self.lacked:
            raise api_error(404, b"404 page not found\n", None, creating=False)

    def _at(self, kind: type[Resource], name: str) -> Raw:
        self._require_definition(kind)
        try:
            return self.objects[kind.PLURAL, name]
        except KeyError:
            raise NotFound(404, "NotFound", f"{kind.PLURAL} {name!r} not found") from None

    def _patched(
        self, kind: type[Resource], name: str, changes: Mapping[str, Any], version: str | None
    ) -> Raw:
        raw = self._at(kind, name)
        if version is not None and version != raw["metadata"].get("resourceVersion"):
            raise Conflict(409, "Conflict", "the object has been modified")
        self._merge(raw, changes)
        return copied(raw)

    def _merge(self, raw: Raw, changes: Mapping[str, Any]) -> None:
        merge(raw, changes)
        for field in self.unknown_status_fields:
            raw.get("status", {}).pop(field, None)
        if "spec" in changes:
            raw["metadata"]["generation"] = raw["metadata"].get("generation", 0) + 1
        raw["metadata"]["resourceVersion"] = str(next(self._versions))


def copied(value: T) -> T:
    """Copy an object with all that is in it, several times as fast as ``copy.deepcopy``."""
    same: T = pickle.loads(pickle.dumps(value))
    return same


def merge(into: Raw, changes: Mapping[str, Any]) -> None:
    """Apply a JSON merge patch. (RFC 7396)"""
    for key, value in changes.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, Mapping):
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = copied(value)


def _has_labels(raw: Raw, selector: str) -> bool:
    labels = raw["metadata"].get("labels", {})
    if chosen := re.fullmatch(r"(?:(.+),)?(\S+) in \((.+)\)", selector):
        rest, key, values = chosen.groups()
        return labels.get(key) in values.split(",") and _has_labels(raw, rest or "")
    # A key without a value: the label exists.
    return all(key in labels and (not value or labels[key] == value) for key, value in _pairs(selector))


def _has_fields(raw: Raw, selector: str) -> bool:
    return all(
        _field(raw, path.removesuffix("!")) != value if path.endswith("!") else _field(raw, path) == value
        for path, value in _pairs(selector)
    )


def _field(raw: Raw, path: str) -> object:
    found: Any = raw
    for part in path.split("."):
        found = found.get(part) or {}
    # The API server selects a field that is absent by the empty text, and a boolean by its JSON.
    return "true" if found is True else found or ""


def _pairs(selector: str) -> Iterable[tuple[str, str]]:
    for part in filter(None, selector.split(",")):
        key, _, value = part.partition("=")
        yield key, value


class SmallPages(InMemoryKubeClient):
    """An API server whose objects are large, so that a page has one of them."""

    async def page(
        self, kind: type[Resource], *, limit: int, token: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Raw], str]:
        return await super().page(kind, limit=min(limit, 1), token=token, labels=labels, fields=fields)
