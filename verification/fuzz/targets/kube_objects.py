"""Objects that users write, as lists and watches bring them: parsing, and the caches of both sides."""

import msgspec
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from controller.cache import Cache
from controller.watch.reflector import Reflector
from counterfoil.kube.watch import WatchEvent
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    Archive,
    Envelope,
    EnvelopeEvent,
    Organization,
    Resource,
    ResourceInvalid,
    Sender,
    to_json_dict,
)
from counterfoil.resources.base import ResourceWithComputedStatus
from tests.support.builders import AClock
from tests.support.scenes.receiver_parts import ReceiverKubeClient
from verification.fuzz.target import Check, Target, expect, promised
from webhook.http_server.rate_limit import TokenBucket
from webhook.receiver.organizations import OrganizationCache

KINDS: tuple[type[Resource], ...] = (EnvelopeEvent, Organization, Sender, Archive, Envelope)


def _prepare() -> Check:
    metrics, clock = Metrics(CollectorRegistry(), version="0"), AClock()

    def check(data: bytes) -> None:
        kind = KINDS[data[0] % len(KINDS) if data else 0]
        try:
            raw = msgspec.json.decode(data[1:], type=dict)
        except (ValueError, RecursionError):
            # It does not come from the API server.
            return
        parsed = kind.parse(raw)
        with promised("an object is written as it was read"):
            if isinstance(parsed, ResourceWithComputedStatus):
                parsed = replace(parsed, unread_status=None)
            expect(kind.parse(parsed.to_dict()) == parsed, "an object is read as it was written")
            to_json_dict(parsed)
        name = parsed.name
        cache = Cache()
        with promised("the controller stores an object that the API server accepts"):
            if kind is not Envelope and (parsed.metadata.resource_version or "0").isdecimal():
                Reflector(ReceiverKubeClient(), cache).handle(kind, "ADDED", raw)
        if kind is Organization:
            organizations = OrganizationCache(
                metrics, clock=clock, new_bucket=lambda: TokenBucket(rate=1.0, burst=1)
            )
            with promised("the receiver stores any Organization"):
                organizations.update(WatchEvent("ADDED", raw))
                view = organizations.find(name)
                expect(view is not None and not view.has_token("a-token"), "nobody has a token by chance")
                organizations.update(WatchEvent("SYNCED", {}, frozenset()))
                expect(organizations.find(name) is None, "a removed Organization is forgotten")

    return check


_META = (
    b'"metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "labels": {"counterfoil.dev/shard": "7"}}'
)

TARGET = Target(
    subject="objects that users write, in parsing and in the caches",
    documented=(ResourceInvalid,),
    seeds=(
        b"\x00{" + _META + b', "spec": {"organizationRef": {"name": "acme"}, "envelopeID": '
        b'"0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10", "action": "envelopeFinished", "workstep": {"id": "1"}, '
        b'"origin": "Callback", "parameters": {"a": "b"}}, "status": {"phase": "Archiving", "deliveries": 2, '
        b'"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending", "message": "", '
        b'"lastTransitionTime": "2026-01-01T00:00:00Z"}], "nextAttemptTime": "2026-01-01T00:00:00Z", '
        b'"documents": [{"fileID": "1", "kind": "Document", "fileName": "a", "size": 1, "sha256": "00"}]}}',
        b"\x01{" + _META + b', "spec": {"baseURL": "https://a.example", "callback": {"tokenSecretRefs": '
        b'[{"name": "c", "key": "token"}], "parameters": ["costCenter"]}, "actions": [{"action": '
        b'"envelopeFinished", "handling": "Archive"}], "retry": {"initial": "10s", "deadline": "24h"}, '
        b'"archiveRef": {"name": "dms"}, "cleanup": {"policy": "Delete", "after": "1h30m"}, "limits": '
        b'{"concurrency": 1}}, "status": {"callbackTokenHashes": ["sha256$0$0"], "basicAuthHashes": ["x"]}}',
        b"\x02{" + _META + b', "spec": {"organizationRef": {"name": "acme"}, "userID": "anna"}, '
        b'"status": {"key": {"secretName": "a", "keyID": "k1"}}}',
        b"\x03{" + _META + b', "spec": {"filesystem": {"root": "/a"}, "tags": {"a": {"xpath": "/a"}}, '
        b'"verify": "ReadBack"}, "status": {"bytesTotal": 5}}',
        b"\x04{" + _META + b', "spec": {"organizationRef": {"name": "acme"}, "envelopeID": "0f9c"}}',
    ),
    words=(
        *(
            b'"metadata": "spec": "status": "labels": "name": null [] {} "1h30m" "500ms" 9999999999h '
            b'0001-01-01T00:00:00+14:00 1e999 99999999999999999999 "Archive" "Record"'
        ).split(b" "),
    ),
    prepare=_prepare,
)
