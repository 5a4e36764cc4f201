"""
Objects that the API server must accept or refuse: one entry per rule of the CRDs, with cases on both sides.

Cases are changes to the least object of a kind, by dotted path; a path ending in a list or map replaces it as
a whole. ``test_crd_rules`` tries them on a real API server, and sees that no rule was forgotten.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from counterfoil.resources import Archive, Envelope, EnvelopeEvent, Import, Organization, Resource, Sender
from counterfoil.resources.archive_kinds import EXAMPLES

ID = "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10"
OTHER_ID = "11111111-5d1b-4f6e-9c55-2f1f0a3b7d10"
NAME = f"{ID}-486a4fe22fcc9d69"
NOON = "2026-07-02T12:00:00Z"

Raw = dict[str, Any]
Changes = Mapping[str, Any]
Sentences = Mapping[str, Changes]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: of which kind, on which field (``[]`` for list and map elements), and how its message
    begins."""

    kind: type[Resource]
    at: str
    says: str
    before: Changes | None = None
    """For rules on changes: what the stored object has; the cases are merge patches of its spec then."""
    accepted: Sentences
    refused: Sentences


LEAST: dict[type[Resource], tuple[str, Raw]] = {
    Organization: (
        "acme",
        {
            "baseURL": "https://saas.esignanywhere.net",
            "callback": {"tokenSecretRefs": [{"name": "acme-callback", "key": "token"}]},
            "archiveRef": {"name": "dms"},
        },
    ),
    Archive: ("dms", {"filesystem": {"root": "/archive"}}),
    Sender: ("jane-doe", {"organizationRef": {"name": "acme"}, "userID": "6d1f4a0b"}),
    Import: ("old-stock", {"organizationRef": {"name": "acme"}, "from": "2019-01-01"}),
    Envelope: (
        ID,
        {"organizationRef": {"name": "acme"}, "envelopeID": ID, "senderRef": {"name": "jane-doe"}},
    ),
    EnvelopeEvent: (
        NAME,
        {"organizationRef": {"name": "acme"}, "envelopeID": ID, "action": "envelopeFinished"},
    ),
}


def built(kind: type[Resource], changes: Changes) -> Raw:
    """Return the least object of a kind with the changes made; the value None takes the field out."""
    name, spec = LEAST[kind]
    raw: Raw = {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": kind.KIND,
        "metadata": {"name": name},
        "spec": deepcopy(spec),
    }
    for path, value in changes.items():
        *above, last = path.split(".")
        inner = raw
        for name in above:
            inner = inner.setdefault(name, {})
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return raw


def at(path: str, values: Mapping[str, Any]) -> Sentences:
    """Cases that give one field a value."""
    return {sentence: {path: value} for sentence, value in values.items()}


def webhooks(urls: Mapping[str, str]) -> Sentences:
    """Cases of receivers of notices."""
    ref = {"name": "hook", "key": "secret"}
    return at("spec.webhook", {name: {"url": url, "signingSecretRef": ref} for name, url in urls.items()})


Place = Callable[[Any], Changes]
"""Function that puts a value into an object."""


def spec(**given: Any) -> Changes:
    """Replace the whole spec, for kinds of archives."""
    return {"spec": given}


def in_place(place: Place, values: Mapping[str, Any]) -> Sentences:
    return {sentence: place(value) for sentence, value in values.items()}


# -- Addresses -----------------------------------------------------------------------------------------------

URLS: Mapping[tuple[type[Resource], str], Place] = {
    (Organization, "spec.baseURL"): lambda url: {"spec.baseURL": url},
    (Organization, "spec.oauth.publicURL"): lambda url: {
        "spec.oauth": {"clientID": "c", "clientSecretRef": {"name": "s", "key": "k"}, "publicURL": url}
    },
    (Organization, "spec.notifications.consoleURL"): lambda url: {"spec.notifications.consoleURL": url},
    (Archive, "spec.s3.endpoint"): lambda url: spec(
        s3={"bucket": "abc", "endpoint": url, "credentialsSecretRef": {"name": "s"}}
    ),
    (Archive, "spec.azblob.endpoint"): lambda url: spec(
        azblob={"container": "abc", "endpoint": url, "credentialsSecretRef": {"name": "s"}}
    ),
    (Archive, "spec.webdav.url"): lambda url: spec(webdav={"url": url}),
    (Archive, "spec.cmis.url"): lambda url: spec(cmis={"url": url, "repositoryID": "r"}),
    (Archive, "spec.http.url"): lambda url: spec(http={"url": url}),
}

AMAZON_ENDPOINTS = {
    "global": "https://s3.amazonaws.com",
    "a region": "https://s3.eu-central-1.amazonaws.com",
    "a slash": "https://s3.eu-central-1.amazonaws.com/",
    "capitals": "https://S3.EU-Central-1.amazonaws.com",
    "IPv6": "https://s3.dualstack.ap-southeast-2.amazonaws.com",
    "FIPS": "https://s3-fips.us-gov-west-1.amazonaws.com",
    "China": "https://s3.cn-north-1.amazonaws.com.cn",
    "the European cloud": "https://s3.eusc-de-east-1.amazonaws.eu",
    "an interface of one's network": "https://bucket.vpce-0a1b-2c.s3.us-east-1.vpce.amazonaws.com",
}
NOT_AMAZON = {
    "another server": "https://evil.example.com",
    "a name that ends alike": "https://s3.eu-central-1.evilamazonaws.com",
    "a name that begins alike": "https://s3.amazonaws.com.evil.example.com",
    "a path that ends alike": "https://evil.example.com/.s3.amazonaws.com",
    "a function of a customer": "https://abc123.execute-api.eu-central-1.amazonaws.com",
    "a machine of a customer": "https://ec2-1-2-3-4.eu-central-1.compute.amazonaws.com",
    "a balancer of a customer": "https://s3.eu-central-1.elb.amazonaws.com",
    "a website of a customer": "https://x.s3-website.eu-central-1.amazonaws.com",
    "a function behind a bucket": "https://x.s3-object-lambda.eu-central-1.amazonaws.com",
    "a service of a customer": "https://vpce-1.vpce-svc-2.us-east-1.vpce.amazonaws.com",
    "another port": "https://s3.amazonaws.com:8443",
    "no TLS": "http://evil",
}
NOT_REGIONS = {
    "a host": "evil.example.com/",
    "a port": "evil.example.com:443",
    "a user": "x@evil.example.com",
    "a query": "evil.example.com?x",
    "a fragment": "evil.example.com#x",
    "a backslash": "evil.example.com\\",
    "a space": "eu central",
}
NOT_AMAZON_REGIONS = {
    "a load balancer of a customer": "mallory-1234.eu-west-1.elb",
    "a machine of a customer": "ec2-203-0-113-7.compute-1",
    "an underscore": "eu_central_1",
    "capitals": "EU-central-1",
}
AZURE_ENDPOINTS = {
    "public": "https://acme.blob.core.windows.net",
    "a slash": "https://acme.blob.core.windows.net/",
    "China": "https://acme.blob.core.chinacloudapi.cn",
    "the government of the USA": "https://acme.blob.core.usgovcloudapi.net",
    "a zone": "https://acme.z37.blob.storage.azure.net",
    "the secondary": "https://acme-secondary.blob.core.windows.net",
}
NOT_AZURE = {
    "another server": "https://acme.blob.evil.example.com",
    "a name that ends alike": "https://acme.blob.core.evilwindows.net",
    "a name that begins alike": "https://acme.blob.core.windows.net.evil.example.com",
    "a path that ends alike": "https://evil.example.com/.blob.core.windows.net",
    "another of Microsoft's services": "https://acme.azurewebsites.net",
    "another service of the account": "https://acme.web.core.windows.net",
    "a name above the account": "https://evil.acme.blob.core.windows.net",
    "Germany, which is given up": "https://acme.blob.core.cloudapi.de",
    "another port": "https://acme.blob.core.windows.net:8443",
    "no TLS": "http://acme.blob.svc",
    "no account": "https://blob.core.windows.net",
}

WELL_FORMED = {
    "a host": "https://saas.esignanywhere.net",
    "a host and a port": "https://esaw.acme.example:8443",
    "a path": "https://acme.example/esaw/",
    "an IPv6 address": "https://[2001:db8::1]:8443/x",
}
ILL_FORMED = {
    "no scheme": "saas.esignanywhere.net",
    "another scheme": "ftp://acme.example",
    "a scheme in capitals": "HTTPS://acme.example",
    "no host": "https://",
    "a user": "https://jane@acme.example",
    "a user and a password": "https://jane:secret@acme.example/",
    "a query": "https://acme.example/?a=b",
    "a fragment": "https://acme.example/#a",
    "a space": "https://acme.example/a b",
    "a line break": "https://acme.example/a\nb",
    "a backslash": "https://acme.example\\@evil.example",
    "a port that is no number": "https://acme.example:port",
}
SAFE = {
    "https": "https://acme.example",
    "http to localhost": "http://localhost:8080/x",
    "http to 127.0.0.1": "http://127.0.0.1:8080",
    "http to the IPv6 loopback": "http://[::1]:8080",
    "http to a Service of the same namespace": "http://esaw:8080",
    "http to a Service of another namespace": "http://esaw.tools.svc",
    "http to a Service by its full name": "http://esaw.tools.svc.cluster.local:80/x",
}
UNSAFE = {
    "http to the internet": "http://saas.esignanywhere.net",
    "http to a private address": "http://10.0.0.7",
    "http to a name that begins like loopback": "http://127.0.0.1.evil.example",
    "http to a name that begins like localhost": "http://localhost.evil.example",
    "http to a name that ends like a Service": "http://evil-svc.example/.svc",
    "http to an address written as one number": "http://3232235521",
    "http to an address written in hexadecimal": "http://0x7f000001",
    "http to another IPv6 address": "http://[2001:db8::1]",
}


BASE_URL = (Organization, "spec.baseURL")
"""The only URL that has no path: eSAW's interfaces have fixed paths below its host."""


IMPOSSIBLE_PORTS = {
    "a port that is too high": "https://esaw.example:65536",
    "a port of five nines": "https://esaw.example:99999",
    "port zero": "https://esaw.example:0",
}
"""Only eSAW's address is checked for them: other URLs end no more than their own request."""


def url_rules() -> Iterable[Rule]:
    for (kind, path), place in URLS.items():
        without = without_paths if (kind, path) == BASE_URL else dict
        ports = IMPOSSIBLE_PORTS if (kind, path) == BASE_URL else {}
        yield Rule(
            kind=kind,
            at=path,
            says="write scheme, host and perhaps port",
            accepted=in_place(place, without(WELL_FORMED)),
            refused=in_place(place, ILL_FORMED | ports),
        )
        yield Rule(
            kind=kind,
            at=path,
            says="use https; plain http is for loopback",
            accepted=in_place(place, without(SAFE)),
            refused=in_place(place, UNSAFE),
        )
    yield Rule(
        kind=Organization,
        at="spec.baseURL",
        says="leave out the path (also /Api, which Counterfoil adds)",
        accepted=at("spec.baseURL", {"a host": "https://a.example", "a final slash": "https://a.example/"}),
        refused=at(
            "spec.baseURL",
            {
                "the API": "https://saas.esignanywhere.net/Api",
                "the API with a slash": "https://saas.esignanywhere.net/Api/",
                "its version": "https://saas.esignanywhere.net:8443/Api/v6",
                "another path": "https://acme.example/esaw",
                "two slashes": "https://acme.example//",
                "the API of a Service": "http://esaw.tools.svc/Api",
            },
        ),
    )


def without_paths(urls: Mapping[str, str]) -> dict[str, str]:
    return {sentence: "/".join(url.split("/")[:3]) for sentence, url in urls.items()}


INBOX = [
    Rule(
        kind=Organization,
        at="spec.beforeSend.inboxURL",
        says="write an absolute address with no user in it",
        accepted=at(
            "spec.beforeSend.inboxURL",
            {**WELL_FORMED, "a query and a fragment": "https://acme.example/inbox?folder=sent#top"},
        ),
        refused=at(
            "spec.beforeSend.inboxURL",
            {
                "a path only": "/inbox",
                "a user": "https://jane@acme.example",
                "a script": "javascript:alert(1)",
                "a space": "https://acme.example/a b",
            },
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.beforeSend.inboxURL",
        says="use https; plain http is for loopback",
        accepted=at("spec.beforeSend.inboxURL", SAFE),
        refused=at("spec.beforeSend.inboxURL", UNSAFE),
    ),
    Rule(
        kind=Organization,
        at="spec.webhook.url",
        says="write an absolute address with no user and no fragment in it",
        accepted=webhooks({**WELL_FORMED, "a query": "https://acme.example/hook?code=1&sig=a%2Fb"}),
        refused=webhooks(
            {
                "a path only": "/hook",
                "a user and a password": "https://jane:secret@acme.example/hook",
                "a fragment": "https://acme.example/hook#top",
                "another scheme": "ftp://acme.example/hook",
                "a space": "https://acme.example/a b",
            }
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.webhook.url",
        says="use https; plain http is for loopback",
        accepted=webhooks(SAFE),
        refused=webhooks(UNSAFE),
    ),
]

# -- Durations -----------------------------------------------------------------------------------------------

DURATIONS: Mapping[str, Place] = {
    "spec.cleanup.after": lambda text: {"spec.cleanup.after": text},
    "spec.evidence.wait": lambda text: {"spec.evidence.wait": text},
    "spec.retention": lambda text: {"spec.retention": text},
    "spec.retry.initial": lambda text: {"spec.retry": {"initial": text, "max": "500h", "deadline": "1000h"}},
    "spec.retry.max": lambda text: {"spec.retry": {"initial": "1ms", "max": text, "deadline": "1000h"}},
    "spec.retry.deadline": lambda text: {"spec.retry": {"initial": "1ms", "max": "1ms", "deadline": text}},
    "spec.sweep.interval": lambda text: {"spec.sweep.interval": text},
    "spec.sweep.lookback": lambda text: {"spec.sweep": {"interval": "1m", "lookback": text}},
    "spec.notifications.escalateAfter": lambda text: {"spec.notifications.escalateAfter": text},
    "spec.ttl.succeeded": lambda text: {"spec.ttl.succeeded": text, "spec.sweep.lookback": "72h"},
    "spec.ttl.failed": lambda text: {"spec.ttl.failed": text},
    "spec.ttl.unknown": lambda text: {"spec.ttl.unknown": text},
    "spec.ttl.imported": lambda text: {"spec.ttl.imported": text},
}
READABLE = {"hours": "100h", "hours and minutes": "99h60m", "fractions": "99.5h", "ms": "360000000ms"}
UNREADABLE = {
    "a number only": "10",
    "days": "4d",
    "a sign": "-100h",
    "a space": "100 h",
    "words": "soon",
    "nothing": "",
}


def duration_rules() -> Iterable[Rule]:
    for path, place in DURATIONS.items():
        yield Rule(
            kind=Organization,
            at=path,
            says="write a duration as in 500ms, 10s or 1h30m",
            accepted=in_place(place, READABLE),
            refused=in_place(place, UNREADABLE),
        )


def look_back(text: str) -> Mapping[str, Any]:
    return {"spec.sweep": {"interval": "1m", "lookback": text}, "spec.ttl.succeeded": "999999h"}


TIMES = [
    Rule(
        kind=Organization,
        at="spec.cleanup.after",
        says="after must be 8760h (one year) or shorter",
        accepted=at("spec.cleanup.after", {"at once": "0s", "a year": "8760h"}),
        refused=at("spec.cleanup.after", {"longer": "8760h1ms", "indefinitely": "999999999999h"}),
    ),
    Rule(
        kind=Organization,
        at="spec.evidence.wait",
        says="wait must be 168h (one week) or shorter",
        accepted=at("spec.evidence.wait", {"no wait": "0s", "a week": "168h"}),
        refused=at("spec.evidence.wait", {"longer": "168h1ms", "indefinitely": "999999999999h"}),
    ),
    Rule(
        kind=Organization,
        at="spec.retry.initial",
        says="initial must be longer than 0s",
        accepted=at("spec.retry.initial", {"a millisecond": "1ms"}),
        refused=at("spec.retry.initial", {"no pause": "0s", "no pause, without a unit": "0"}),
    ),
    Rule(
        kind=Organization,
        at="spec.retry",
        says="initial must not be longer than max (default 1h), nor max longer than deadline",
        accepted=at(
            "spec.retry",
            {
                "in order": {"initial": "1s", "max": "1m", "deadline": "1h"},
                "all equal, in other words": {"initial": "1h", "max": "60m", "deadline": "3600s"},
                "one within the defaults": {"initial": "1h"},
            },
        ),
        refused=at(
            "spec.retry",
            {
                "initial beyond max": {"initial": "2m", "max": "1m"},
                "initial beyond the default of max": {"initial": "61m"},
                "max beyond deadline": {"max": "2h", "deadline": "1h"},
                "max beyond the default of deadline": {"max": "25h"},
                "more hours than fit": {"deadline": "999999999999h"},
            },
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.sweep",
        says="lookback (default 768h) must not be shorter than interval",
        accepted=at(
            "spec.sweep", {"equal": {"interval": "768h"}, "longer": {"interval": "1h", "lookback": "2h"}}
        ),
        refused=at(
            "spec.sweep",
            {
                "shorter": {"interval": "2h", "lookback": "1h"},
                "shorter by default": {"interval": "769h"},
                "nothing to look at": {"interval": "1h", "lookback": "0s"},
            },
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.sweep.interval",
        says="interval must be 1m or longer",
        accepted=at("spec.sweep.interval", {"a minute": "60s"}),
        refused=at("spec.sweep.interval", {"less than a minute": "59s999ms", "without end": "0s"}),
    ),
    Rule(
        kind=Organization,
        at="spec.sweep.lookback",
        says="lookback must be 87600h (10 years) or shorter",
        accepted=in_place(look_back, {"ten years": "87600h"}),
        refused=in_place(look_back, {"longer": "87600h1ms", "indefinitely": "999999h"}),
    ),
    Rule(
        kind=Organization,
        at="spec.retention",
        says="retention must be 48h to 87600h",
        accepted=at("spec.retention", {"two days": "48h", "ten years": "87600h"}),
        refused=at("spec.retention", {"nothing": "0s", "a day": "47h59m", "more than ten years": "87600h1s"}),
    ),
    *(
        Rule(
            kind=Organization,
            at=f"spec.ttl.{result}",
            says="events are kept for 72h or longer",
            accepted=in_place(DURATIONS[f"spec.ttl.{result}"], {"three days": "72h"}),
            refused=in_place(
                DURATIONS[f"spec.ttl.{result}"], {"less than three days": "71h59m", "not at all": "0s"}
            ),
        )
        for result in ("succeeded", "failed", "unknown", "imported")
    ),
    Rule(
        kind=Organization,
        at="spec.ttl.succeeded",
        says="ttl.succeeded (default 792h) must not be shorter than sweep.lookback (default 768h)",
        accepted={
            "equal": {"spec.ttl.succeeded": "768h"},
            "equal to the default": {"spec.sweep.lookback": "792h"},
        },
        refused={
            "shorter": {"spec.ttl.succeeded": "767h"},
            "shorter by default": {"spec.sweep.lookback": "793h"},
        },
    ),
]

# -- Organizations -------------------------------------------------------------------------------------------


def oauth(**paths: str) -> Changes:
    return {"spec.oauth": {"clientID": "c", "clientSecretRef": {"name": "s", "key": "k"}, **paths}}


PATHS = {"a path": "/Auth/Authorize", "the root": "/", "one with a dot": "/a.b/c"}
NO_PATHS = {
    "no slash": "Auth",
    "two slashes, which name a host": "//evil.example/x",
    "a query": "/Auth?x=1",
    "a fragment": "/Auth#x",
    "a backslash": "/\\evil.example",
    "an address": "https://evil.example/",
}
ADDRESSES = {"a plain address": "jane.doe@acme.example", "an address with a plus": "a+b@x.example"}
NO_ADDRESSES = {
    "a name": "Jane Doe",
    "a name and an address": "Jane <jane@acme.example>",
    "two addresses": "a@b.example,c@d.example",
    "two at signs": "a@b@c.example",
    "a line break": "a@b.example\nBcc: x@y.example",
    "nothing": "",
}


def form(**given: Any) -> Changes:
    return {"spec.beforeSend": {"fields": [{"name": "costCenter", **given}]}}


def routed(**when: Any) -> Changes:
    """One route of an Organization with these conditions."""
    return {"spec.routes": [{"name": "hr", "archiveRef": {"name": "vault"}, "when": when}]}


def with_patterns(count: int) -> Changes:
    """32 routes with four tags each, of which `count` have a pattern."""
    kinds: list[Raw] = [{"pattern": "a+"} if each < count else {"values": ["HR"]} for each in range(128)]
    return {
        "spec.routes": [
            {
                "name": f"r{route}",
                "archiveRef": {"name": "vault"},
                "when": {"tags": {f"t{tag}": kinds[4 * route + tag] for tag in range(4)}},
            }
            for route in range(32)
        ]
    }


def copied(*archives: str) -> Changes:
    """Copies in these Archives."""
    return {"spec.copies": [{"archiveRef": {"name": each}} for each in archives]}


def mail(**given: Any) -> Changes:
    return {"spec.notifications": {"smtpSecretRef": {"name": "smtp"}, "from": "a@acme.example", **given}}


TAG_NAMES = {"a word": "costCenter", "an underscore": "_x", "dots and hyphens": "a.b-c_1", "63": "a" * 63}
NO_TAG_NAMES = {"a digit first": "1a", "a space": "a b", "an umlaut": "größe", "nothing": ""}

PARAMETER_NAMES = {"a word": "orderNo", "an underscore": "order_no", "dots": "a.b-c_1", "63": "a" * 63}
NO_PARAMETER_NAMES = {"a digit first": "1a", "a space": "a b", "an umlaut": "größe", "a bracket": "a[]"}


def own(*names: str) -> Changes:
    return {"spec.callback.parameters": list(names)}


ORGANIZATIONS = [
    Rule(
        kind=Organization,
        at="spec.callback.parameters",
        says="letter case does not matter, so no two names may differ in it only",
        accepted={"two": own("orderNo", "order"), "none": own(), "16": own(*(f"p{n}" for n in range(16)))},
        refused={"one in two cases": own("orderNo", "orderno")},
    ),
    Rule(
        kind=Organization,
        at="spec.callback.parameters[]",
        says="a parameter's name is a letter, then at most 62 letters",
        accepted=in_place(own, PARAMETER_NAMES),
        refused=in_place(own, {**NO_PARAMETER_NAMES, "nothing": ""}),
    ),
    Rule(
        kind=Organization,
        at="spec.callback.parameters[]",
        says="this is the name of one of eSAW's own parameters",
        accepted={"a longer one": own("actions", "envelopeIds", "times")},
        refused=in_place(
            own,
            {
                name: name
                for name in (
                    *("envelope", "envelopeId", "ENVELOPEID", "action", "workstepId", "eventType", "source"),
                    *("time", "description", "recipientEmail", "RecipientOrder"),
                )
            },
        ),
    ),
    Rule(
        kind=Organization,
        at="",
        says="the name of an Organization has at most 63 characters",
        accepted=at("metadata.name", {"63": "a" * 63, "with a dot": "acme.emea"}),
        refused=at("metadata.name", {"64": "a" * 64}),
    ),
    Rule(
        kind=Organization,
        at="spec.archiveRef",
        says="archiveRef is required, since an action has handling Archive",
        accepted={
            "every action only recorded": {
                "spec.archiveRef": None,
                "spec.actions": [{"action": "envelopeFinished", "handling": "Record"}],
            },
            "named": {"spec.actions": [{"action": "envelopeFinished"}]},
        },
        refused={
            "no archive and the default action": {"spec.archiveRef": None},
            "no archive and the default handling": {
                "spec.archiveRef": None,
                "spec.actions": [{"action": "envelopeFinished"}],
            },
            "no archive and one of two actions archived": {
                "spec.archiveRef": None,
                "spec.actions": [
                    {"action": "envelopeExpired", "handling": "Record"},
                    {"action": "envelopeFinished", "handling": "Archive"},
                ],
            },
        },
    ),
    Rule(
        kind=Organization,
        at="spec.actions",
        says="each action is named once; upper and lower case are the same here",
        accepted=at("spec.actions", {"two actions": [{"action": "a"}, {"action": "b"}]}),
        refused=at(
            "spec.actions", {"one in two letter cases": [{"action": "finished"}, {"action": "Finished"}]}
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.actions",
        says="an action keeps its upper and lower case, since the names of its events contain it",
        accepted={
            "another action": {"actions": [{"action": "envelopeExpired", "handling": "Archive"}]},
            "another handling": {"actions": [{"action": "envelopeFinished", "handling": "Record"}]},
            "one more": {
                "actions": [{"action": each, "handling": "Archive"} for each in ("Other", "envelopeFinished")]
            },
        },
        refused={
            "another letter case": {"actions": [{"action": "EnvelopeFinished"}]},
            "another letter case of one of two": {
                "actions": [{"action": "envelopeExpired"}, {"action": "envelopefinished"}]
            },
        },
        before={"spec.actions": [{"action": "envelopeFinished"}]},
    ),
    Rule(
        kind=Organization,
        at="spec.actions[].action",
        says="an action is a letter, then at most 63 letters and digits",
        accepted=at(
            "spec.actions", {"a word": [{"action": "workstepFinished"}], "64": [{"action": "a" * 64}]}
        ),
        refused=at(
            "spec.actions",
            {
                "a placeholder": [{"action": "##Action##"}],
                "a digit first": [{"action": "1a"}],
                "a hyphen": [{"action": "a-b"}],
                "nothing": [{"action": ""}],
            },
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.oauth.authorizePath",
        says="authorizePath is a path that begins with one /",
        accepted=in_place(lambda path: oauth(authorizePath=path), PATHS),
        refused=in_place(lambda path: oauth(authorizePath=path), NO_PATHS),
    ),
    Rule(
        kind=Organization,
        at="spec.oauth.tokenPath",
        says="tokenPath is a path that begins with one /",
        accepted=in_place(lambda path: oauth(tokenPath=path), PATHS),
        refused=in_place(lambda path: oauth(tokenPath=path), NO_PATHS),
    ),
    Rule(
        kind=Organization,
        at="spec.beforeSend.fields[]",
        says="a field has either a pattern (free text) or options (a choice)",
        accepted={
            "a pattern": form(pattern="[0-9]{4}"),
            "options": form(options=["a", "b"]),
            "neither": form(required=True),
        },
        refused={"both": form(pattern="[0-9]{4}", options=["1000"])},
    ),
    Rule(
        kind=Organization,
        at="spec.beforeSend.fields[].name",
        says="a tag's name is a letter or _",
        accepted=in_place(lambda name: form(name=name), TAG_NAMES),
        refused=in_place(lambda name: form(name=name), NO_TAG_NAMES),
    ),
    Rule(
        kind=Organization,
        at="spec.beforeSend.fields[].pattern",
        says="pattern is not a regular expression",
        accepted=in_place(lambda text: form(pattern=text), {"digits": "[0-9]{4}", "words": "a|b"}),
        refused=in_place(lambda text: form(pattern=text), {"an open bracket": "([", "a lone star": "*"}),
    ),
    Rule(
        kind=Organization,
        at="spec.routes",
        says="the routes of an Organization have at most 16 patterns",
        accepted={"16": with_patterns(16), "values in all": with_patterns(0)},
        refused={"17": with_patterns(17), "128": with_patterns(128)},
    ),
    Rule(
        kind=Organization,
        at="spec.copies",
        says="each Archive has one copy at most",
        accepted={"two Archives": copied("worm", "mirror")},
        refused={"one Archive twice": copied("worm", "worm")},
    ),
    Rule(
        kind=Organization,
        at="spec.copies",
        says="a copy can't be in the Archive of its original",
        accepted={"another Archive": copied("worm")},
        refused={"the Archive of the original": {**copied("dms"), "spec.archiveRef": {"name": "dms"}}},
    ),
    Rule(
        kind=Organization,
        at="spec.routes[].when",
        says="a route has at least one of tags, senders, actions and statuses",
        accepted={
            "tags": routed(tags={"area": {"values": ["HR"]}}),
            "senders": routed(senders=["anna"]),
            "actions": routed(actions=["envelopeFinished"]),
            "statuses": routed(statuses=["Rejected"]),
        },
        refused={"none of them": routed()},
    ),
    Rule(
        kind=Organization,
        at="spec.routes[].when.tags",
        says="a tag's name is a letter or _",
        accepted=in_place(lambda name: routed(tags={name: {"values": ["HR"]}}), TAG_NAMES),
        refused=in_place(
            lambda name: routed(tags={name: {"values": ["HR"]}}),
            {**NO_TAG_NAMES, "64": "a" * 64, "a slash": "a/b"},
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.routes[].when.tags[]",
        says="a tag of a route has either values or a pattern",
        accepted=in_place(
            lambda tag: routed(tags={"area": tag}),
            {"values": {"values": ["HR"]}, "a pattern": {"pattern": "H"}},
        ),
        refused=in_place(
            lambda tag: routed(tags={"area": tag}),
            {"neither": {}, "both": {"values": ["HR"], "pattern": "HR"}},
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.routes[].when.tags[].pattern",
        says="pattern is not a regular expression",
        accepted=in_place(
            lambda text: routed(tags={"area": {"pattern": text}}), {"digits": "[0-9]{4}", "words": "a|b"}
        ),
        refused=in_place(
            lambda text: routed(tags={"area": {"pattern": text}}),
            {"an open bracket": "([", "a lone star": "*", "an assertion": "(?=a)b"},
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.routes[].when.actions[]",
        says="an action is a letter, then at most 63 letters and digits",
        accepted=in_place(
            lambda action: routed(actions=[action]), {"a word": "workstepFinished", "64": "a" * 64}
        ),
        refused=in_place(
            lambda action: routed(actions=[action]),
            {"a placeholder": "##Action##", "a digit first": "1a", "a hyphen": "a-b", "nothing": ""},
        ),
    ),
    Rule(
        kind=Organization,
        at="spec.notifications",
        says="administrators can be written to only with smtpSecretRef and from",
        accepted={
            "a mail server and a sender": mail(administrators=["a@acme.example"]),
            "no administrators": {"spec.notifications": {"consoleURL": "https://console.acme.example"}},
        },
        refused={
            "no mail server": {
                "spec.notifications": {"from": "a@acme.example", "administrators": ["a@acme.example"]}
            },
            "no sender": {
                "spec.notifications": {"smtpSecretRef": {"name": "x"}, "administrators": ["a@acme.example"]}
            },
        },
    ),
    Rule(
        kind=Organization,
        at="spec.notifications.from",
        says="write one plain e-mail address",
        accepted=at("spec.notifications.from", ADDRESSES),
        refused=at("spec.notifications.from", NO_ADDRESSES),
    ),
    Rule(
        kind=Organization,
        at="spec.notifications.administrators[]",
        says="write one plain e-mail address",
        accepted=in_place(lambda address: mail(administrators=[address]), ADDRESSES),
        refused=in_place(lambda address: mail(administrators=[address]), NO_ADDRESSES),
    ),
]

# -- Archives ------------------------------------------------------------------------------------------------

KINDS: Mapping[str, Raw] = EXAMPLES


def sftp(**given: Any) -> Changes:
    return spec(sftp={**KINDS["sftp"], **given})


def tagged(**tags: Any) -> Changes:
    return {"spec.tags": tags}


LOCKED: Raw = {
    "bucket": "contracts",
    "region": "eu-central-1",
    "credentialsSecretRef": {"name": "bucket-key"},
    "objectLock": {"mode": "Governance", "retainDays": 3650},
}

SECRET_KEYS = {
    "s3": ("accessKeyId", "secretAccessKey", "sessionToken"),
    "azblob": ("accountName", "accountKey"),
    "gcs": ("serviceAccountJson",),
    "webdav": ("username", "password", "bearerToken"),
    "sftp": ("username", "password", "privateKey"),
    "cmis": ("username", "password"),
    "http": ("signingSecret", "bearerToken"),
}
"""The keys that Counterfoil reads in the Secret of an archive."""


def keys(kind: str, names: Mapping[str, str]) -> Changes:
    """Give keys of the Secret of an archive other names."""
    return spec(**{kind: {**KINDS[kind], "credentialsSecretRef": {"name": "s", "keys": names}}})


ARCHIVES = [
    *(
        Rule(
            kind=Archive,
            at=f"spec.{kind}.credentialsSecretRef.keys",
            says="keys gives the Secret's own names of",
            accepted={
                "each key": keys(kind, {name: f"OTHER_{name}" for name in names}),
                "one key": keys(kind, {names[0]: "a.b-c"}),
                "none": keys(kind, {}),
            },
            refused={
                "another key": keys(kind, {"user": "USER"}),
                "another case": keys(kind, {"PASSWORD": "p"}),
            },
        )
        for kind, names in SECRET_KEYS.items()
    ),
    Rule(
        kind=Archive,
        at="spec",
        says=f"set exactly one of {', '.join([*KINDS][:-1])} and custom",
        accepted={kind: spec(**{kind: settings}) for kind, settings in KINDS.items()},
        refused={
            "none": {"spec": {"verify": "ReadBack"}},
            "two": spec(filesystem=KINDS["filesystem"], s3=KINDS["s3"]),
            "all": spec(**KINDS),
        },
    ),
    Rule(
        kind=Archive,
        at="spec",
        says="the kind of an Archive never changes",
        accepted={
            "another folder": {"filesystem": {"root": "/other"}},
            "another path": {"path": "{{envelope.id}}/{{file.name}}"},
        },
        refused={
            f"to {kind}": {"filesystem": None, kind: settings}
            for kind, settings in KINDS.items()
            if kind != "filesystem"
        },
        before={"spec.verify": "ReadBack"},
    ),
    Rule(
        kind=Archive,
        at="spec.trustAnchorsSecretRef",
        says="trustAnchorsSecretRef needs signatures to be looked at",
        accepted={
            "anchors and the default": {"spec.trustAnchorsSecretRef": {"name": "authorities"}},
            "anchors and Report": {
                "spec.trustAnchorsSecretRef": {"name": "authorities"},
                "spec.signatures": "Report",
            },
            "anchors and Require": {
                "spec.trustAnchorsSecretRef": {"name": "authorities"},
                "spec.signatures": "Require",
            },
            "Ignore without anchors": {"spec.signatures": "Ignore"},
        },
        refused={
            "anchors and Ignore": {
                "spec.trustAnchorsSecretRef": {"name": "authorities"},
                "spec.signatures": "Ignore",
            },
        },
    ),
    Rule(
        kind=Archive,
        at="spec.path",
        says="path uses a tag that is not among tags",
        accepted={
            "a tag that there is": {
                "spec.tags": {"costCenter": {"value": "1"}},
                "spec.path": "{{tags.costCenter}}/{{envelope.id}}/{{file.name}}",
            }
        },
        refused={
            "no tags at all": {"spec.path": "{{tags.costCenter}}/{{envelope.id}}/{{file.name}}"},
            "another tag": {
                "spec.tags": {"costCentre": {"value": "1"}},
                "spec.path": "{{tags.costCenter}}/{{envelope.id}}/{{file.name}}",
            },
            "one of two": {
                "spec.tags": {"a": {"value": "1"}},
                "spec.path": "{{tags.a}}/{{envelope.id}}/{{tags.b}}/{{file.name}}",
            },
        },
    ),
    Rule(
        kind=Archive,
        at="spec.path",
        says="path has a placeholder that does not exist",
        accepted=at(
            "spec.path",
            {
                "every placeholder": "{{organization}}/{{envelope.status}}/{{envelope.sentDate}}"
                "/{{envelope.name}}/{{sender.email}}/{{sender.userID}}/{{envelope.id}}"
                "/{{file.kind}}/{{file.number}}-{{file.name}}"
            },
        ),
        refused=at(
            "spec.path",
            {
                "one of another name": "{{envelope.id}}/{{envelope.title}}/{{file.name}}",
                "the date of archiving": "{{date}}/{{envelope.id}}/{{file.name}}",
                "one with spaces": "{{ envelope.id }}/{{envelope.id}}/{{file.name}}",
                "single braces": "{envelope.id}/{{envelope.id}}/{{file.name}}",
                "one that does not end": "{{envelope.id}}/{{file.name}}/{{file.kind",
                "a tag with a slash": "{{envelope.id}}/{{tags.a/b}}/{{file.name}}",
            },
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.path",
        says="path is relative to the archive",
        accepted=at("spec.path", {"plain folders": "a b/ü/{{envelope.id}}/{{file.name}}"}),
        refused=at(
            "spec.path",
            {
                "absolute": "/{{envelope.id}}/{{file.name}}",
                "a slash at the end": "{{envelope.id}}/{{file.name}}/",
                "an empty segment": "{{envelope.id}}//{{file.name}}",
                "up": "../{{envelope.id}}/{{file.name}}",
                "up in the middle": "a/../{{envelope.id}}/{{file.name}}",
                "a dot": "./{{envelope.id}}/{{file.name}}",
                "a backslash": "a\\b/{{envelope.id}}/{{file.name}}",
                "a line break": "a\nb/{{envelope.id}}/{{file.name}}",
            },
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.path",
        says="before the first segment that names a file",
        accepted=at(
            "spec.path",
            {
                "a separate folder": "{{envelope.id}}/{{file.name}}",
                "a folder with more in its name": (
                    "x/{{envelope.name}}-{{envelope.id}}.d/{{file.kind}}/{{file.name}}"
                ),
                "twice": "{{envelope.id}}/{{envelope.id}}-{{file.name}}",
            },
        ),
        refused=at(
            "spec.path",
            {
                "no envelope": "{{organization}}/{{file.name}}",
                "the envelope's name, which is not its own": "{{envelope.name}}/{{file.name}}",
                "the id in the name of the file only": "x/{{envelope.id}}-{{file.name}}",
                "the id below the kind": "{{file.kind}}/{{envelope.id}}/{{file.name}}",
                "the id after the kind in one segment": "{{file.kind}}-{{envelope.id}}/{{file.name}}",
                "the id in the last segment": "{{file.name}}/{{envelope.id}}",
            },
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.path",
        says="path must contain {{file.name}}",
        accepted=at("spec.path", {"with more around it": "{{envelope.id}}/a-{{file.name}}.x"}),
        refused=at(
            "spec.path",
            {"the number only": "{{envelope.id}}/{{file.number}}", "no file at all": "{{envelope.id}}/x"},
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.tags",
        says="a tag's name is a letter or _",
        accepted=in_place(lambda name: tagged(**{name: {"value": "x"}}), TAG_NAMES),
        refused=in_place(
            lambda name: tagged(**{name: {"value": "x"}}), {**NO_TAG_NAMES, "64": "a" * 64, "a slash": "a/b"}
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.tags",
        says="at most 16 tags are searchable",
        accepted={
            "16 of 17": tagged(**{f"t{at}": {"value": "1", "searchable": at < 16} for at in range(17)}),
            "none of 17": tagged(**{f"t{at}": {"value": "1"} for at in range(17)}),
        },
        refused={"17": tagged(**{f"t{at}": {"value": "1", "searchable": True} for at in range(17)})},
    ),
    Rule(
        kind=Archive,
        at="spec.tags[]",
        says="a tag has exactly one of xpath, jsonPath, callback and value",
        accepted={
            "xpath": tagged(a={"xpath": "/a"}),
            "jsonPath": tagged(a={"jsonPath": "$.a"}),
            "callback": tagged(a={"callback": "orderNo"}),
            "value": tagged(a={"value": "1"}),
        },
        refused={
            "none": tagged(a={"required": True}),
            "two": tagged(a={"xpath": "/a", "value": "1"}),
            "a callback and a value": tagged(a={"callback": "orderNo", "value": "1"}),
            "three": tagged(a={"xpath": "/a", "jsonPath": "$.a", "value": "1"}),
            "one right, one wrong": tagged(a={"xpath": "/a"}, b={}),
        },
    ),
    Rule(
        kind=Archive,
        at="spec.tags[].callback",
        says="a parameter's name is a letter, then at most 62 letters",
        accepted=in_place(lambda name: tagged(a={"callback": name}), PARAMETER_NAMES),
        refused=in_place(lambda name: tagged(a={"callback": name}), NO_PARAMETER_NAMES),
    ),
    Rule(
        kind=Archive,
        at="spec.filesystem.root",
        says="root is the absolute path of a folder below /",
        accepted=at("spec.filesystem.root", {"a folder": "/archive", "a deep one": "/mnt/x y/z/"}),
        refused=at(
            "spec.filesystem.root",
            {
                "relative": "archive",
                "the root itself": "/",
                "the root in other words": "//",
                "up": "/archive/..",
                "the root by a dot": "/.",
                "nothing": "",
            },
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.s3",
        says="objectLock needs region and credentialsSecretRef",
        accepted={"with both": spec(s3=LOCKED)},
        refused={
            "without a region": spec(s3={key: value for key, value in LOCKED.items() if key != "region"}),
            "without a key": spec(
                s3={key: value for key, value in LOCKED.items() if key != "credentialsSecretRef"}
            ),
        },
    ),
    Rule(
        kind=Archive,
        at="spec.s3",
        says="without credentialsSecretRef the pod's own identity is sent to endpoint",
        accepted={
            "no endpoint": spec(s3={"bucket": "abc"}),
            "another server with a Secret": spec(
                s3={
                    "bucket": "abc",
                    "endpoint": "https://minio.acme.example:9000",
                    "credentialsSecretRef": {"name": "s"},
                }
            ),
            **in_place(lambda url: spec(s3={"bucket": "abc", "endpoint": url}), AMAZON_ENDPOINTS),
        },
        refused=in_place(lambda url: spec(s3={"bucket": "abc", "endpoint": url}), NOT_AMAZON),
    ),
    Rule(
        kind=Archive,
        at="spec.s3.region",
        says="a region is letters, digits, hyphens, dots and _",
        accepted=in_place(
            lambda region: spec(s3={"bucket": "abc", "region": region}),
            {"Amazon's": "eu-central-1", "a word": "garage", "one letter": "x"},
        ),
        refused=in_place(lambda region: spec(s3={"bucket": "abc", "region": region}), NOT_REGIONS),
    ),
    Rule(
        kind=Archive,
        at="spec.s3",
        says="a region of Amazon is lower-case letters, digits and hyphens",
        accepted={
            "of another server": spec(
                s3={
                    "bucket": "abc",
                    "region": "eu.West_1",
                    "endpoint": "https://minio.acme.example",
                    "credentialsSecretRef": {"name": "x"},
                }
            ),
        },
        refused={
            **in_place(lambda region: spec(s3={"bucket": "abc", "region": region}), NOT_AMAZON_REGIONS),
            "with a Secret": spec(
                s3={"bucket": "abc", "region": "lb.elb", "credentialsSecretRef": {"name": "x"}}
            ),
            "with an endpoint": spec(
                s3={"bucket": "abc", "region": "lb.elb", "endpoint": "https://s3.amazonaws.com"}
            ),
        },
    ),
    Rule(
        kind=Archive,
        at="spec.azblob",
        says="without credentialsSecretRef the pod's own identity is sent to endpoint",
        accepted={
            "another server with a Secret": spec(
                azblob={
                    "container": "abc",
                    "endpoint": "https://azurite.acme.example:10000/account",
                    "credentialsSecretRef": {"name": "s"},
                }
            ),
            **in_place(lambda url: spec(azblob={"container": "abc", "endpoint": url}), AZURE_ENDPOINTS),
        },
        refused=in_place(lambda url: spec(azblob={"container": "abc", "endpoint": url}), NOT_AZURE),
    ),
    Rule(
        kind=Archive,
        at="spec.s3.bucket",
        says="a bucket's name is 3 to 63 lower-case letters",
        accepted=in_place(lambda name: spec(s3={"bucket": name}), {"a word": "contracts", "dots": "a.b-c.d"}),
        refused=in_place(
            lambda name: spec(s3={"bucket": name}),
            {"capitals": "Contracts", "two letters": "ab", "a hyphen first": "-abc", "a slash": "abc/x"},
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.s3.prefix",
        says="prefix is relative",
        accepted=in_place(
            lambda prefix: spec(s3={"bucket": "abc", "prefix": prefix}),
            {"a folder": "esaw/", "a word": "esaw-", "nothing": "", "deep": "a/b"},
        ),
        refused=in_place(
            lambda prefix: spec(s3={"bucket": "abc", "prefix": prefix}),
            {
                "absolute": "/esaw",
                "up": "../x",
                "empty segment": "a//b",
                "a backslash": "a\\b",
                "a dot": "./a",
            },
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.azblob.container",
        says="a container's name is 3 to 63 lower-case letters",
        accepted=in_place(
            lambda name: spec(azblob={"container": name}), {"a word": "contracts", "a-b": "a-b"}
        ),
        refused=in_place(
            lambda name: spec(azblob={"container": name}),
            {"capitals": "Contracts", "two letters": "ab", "two hyphens": "a--b", "a dot": "a.b"},
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.gcs.bucket",
        says="a bucket's name is 3 to 222 lower-case letters",
        accepted=in_place(
            lambda name: spec(gcs={"bucket": name}), {"a word": "contracts", "more": "a_b.c-d"}
        ),
        refused=in_place(
            lambda name: spec(gcs={"bucket": name}), {"capitals": "Contracts", "two letters": "ab"}
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.sftp.host",
        says="host is a host name or an IP address",
        accepted=in_place(
            lambda host: sftp(host=host),
            {"a name": "sftp.acme.example", "IPv4": "10.0.0.7", "IPv6": "2001:db8::1"},
        ),
        refused=in_place(
            lambda host: sftp(host=host),
            {
                "an address": "sftp://acme.example",
                "a user": "jane@acme.example",
                "a port": "acme.example:22",
                "nothing": "",
            },
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.sftp.hostKeys[]",
        says="write a host key as type and key",
        accepted=in_place(
            lambda key: sftp(hostKeys=[key]),
            {
                "ed25519": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb1",
                "ecdsa": "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY=",
                "a fingerprint": "SHA256:uNiVztksCsDhcc0u9e8BrrF9vHJJgyaOxYAq2vKQEWc",
            },
        ),
        refused=in_place(
            lambda key: sftp(hostKeys=[key]),
            {
                "half a fingerprint": "SHA256:uNiVztksCsDhcc0u9e8BrrF9",
                "a line of known_hosts": "acme.example ssh-ed25519 AAAA",
                "two lines": "ssh-ed25519 AAAA\nssh-ed25519 BBBB",
            },
        ),
    ),
    Rule(
        kind=Archive,
        at="spec.cmis.rootFolder",
        says="rootFolder begins with /",
        accepted=in_place(
            lambda folder: spec(cmis={**KINDS["cmis"], "rootFolder": folder}), {"root": "/", "one": "/a b"}
        ),
        refused=in_place(
            lambda folder: spec(cmis={**KINDS["cmis"], "rootFolder": folder}),
            {"relative": "a", "nothing": ""},
        ),
    ),
]

# -- Senders, envelopes, events ------------------------------------------------------------------------------

GUIDS = {"a GUID": ID}
NO_GUIDS = {
    "capitals": ID.upper(),
    "no hyphens": ID.replace("-", ""),
    "too short": ID[:-1],
    "no hexadecimal digits": ID[:-1] + "g",
    "a placeholder": "##EnvelopeId##",
    "nothing": "",
}

OTHERS = [
    Rule(
        kind=Sender,
        at="",
        says="the name of a Sender has at most 63 characters",
        accepted=at("metadata.name", {"63": "a" * 63}),
        refused=at("metadata.name", {"64": "a" * 64}),
    ),
    Rule(
        kind=Sender,
        at="spec.organizationRef",
        says="organizationRef never changes",
        accepted={"the same": {"organizationRef": {"name": "acme"}, "email": "a@b.example"}},
        refused={"another": {"organizationRef": {"name": "other"}}},
        before={"spec.suspend": False},
    ),
    Rule(
        kind=Sender,
        at="spec.userID",
        says="userID never changes",
        accepted={
            "all else": {"givenName": "J", "tokenSecretRef": {"name": "t", "key": "k"}, "suspend": True}
        },
        refused={"another": {"userID": "other"}},
        before={"spec.suspend": False},
    ),
    Rule(
        kind=Sender,
        at="spec.userID",
        says="userID is the id of the user in eSAW",
        accepted=at("spec.userID", {"a GUID": ID, "a word": "jane.doe"}),
        refused=at("spec.userID", {"nothing": "", "a space": "jane doe", "a slash": "jane/doe"}),
    ),
    Rule(
        kind=Sender,
        at="spec.email",
        says="write one plain e-mail address",
        accepted=at("spec.email", ADDRESSES),
        refused=at("spec.email", NO_ADDRESSES),
    ),
    Rule(
        kind=Envelope,
        at="",
        says="the name of an Envelope is its spec.envelopeID",
        accepted=at("metadata.name", {"the same": ID}),
        refused=at("metadata.name", {"another": OTHER_ID, "with more": f"{ID}-x"}),
    ),
    Rule(
        kind=Envelope,
        at="spec",
        says="who sent an envelope never changes",
        accepted={"times and drafts are added": {"draftID": "d", "sentTime": NOON}},
        refused={
            "another organization": {"organizationRef": {"name": "other"}},
            "another envelope": {"envelopeID": OTHER_ID},
            "another sender": {"senderRef": {"name": "other"}},
        },
        before={},
    ),
    *(
        Rule(
            kind=Envelope,
            at=f"spec.{name}",
            says=f"{name} is set once",
            accepted={"the same again": {name: value}},
            refused={"another": {name: other}, "none": {name: None}},
            before={f"spec.{name}": value},
        )
        for name, value, other in (("draftID", "d", "e"), ("sentTime", NOON, "2026-07-02T13:00:00Z"))
    ),
    Rule(
        kind=Envelope,
        at="spec.envelopeID",
        says="an envelope id is a GUID in lower case",
        accepted=at("spec.envelopeID", GUIDS),
        refused=at("spec.envelopeID", NO_GUIDS),
    ),
    Rule(
        kind=EnvelopeEvent,
        at="",
        says="the name of an EnvelopeEvent is <spec.envelopeID>-<16 hex digits>",
        accepted=at("metadata.name", {"id and digits": NAME}),
        refused=at(
            "metadata.name",
            {
                "another envelope": f"{OTHER_ID}-486a4fe22fcc9d69",
                "the id only": ID,
                "fifteen digits": NAME[:-1],
                "seventeen digits": f"{NAME}0",
                "no hexadecimal digits": f"{ID}-zzzzzzzzzzzzzzzz",
                "another word": f"{ID}.486a4fe22fcc9d69",
            },
        ),
    ),
    Rule(
        kind=EnvelopeEvent,
        at="spec",
        says="the spec is what eSAW called about and never changes",
        accepted={"suspended": {"suspend": True}},
        refused={
            "another organization": {"organizationRef": {"name": "other"}},
            "another envelope": {"envelopeID": OTHER_ID},
            "another action": {"action": "envelopeExpired"},
            "another origin": {"origin": "Manual"},
            "no workstep": {"workstep": None},
            "another workstep": {"workstep": {"id": "v"}},
            "more about the workstep": {"workstep": {"source": "internal"}},
            "no parameters": {"parameters": None},
            "another value of a parameter": {"parameters": {"orderNo": "4712"}},
            "one more parameter": {"parameters": {"tenant": "a"}},
        },
        before={"spec.workstep": {"id": "w"}, "spec.parameters": {"orderNo": "4711"}},
    ),
    Rule(
        kind=EnvelopeEvent,
        at="spec.envelopeID",
        says="an envelope id is a GUID in lower case",
        accepted=at("spec.envelopeID", GUIDS),
        refused=at("spec.envelopeID", NO_GUIDS),
    ),
    Rule(
        kind=EnvelopeEvent,
        at="spec.action",
        says="an action is a letter, then at most 63 letters and digits",
        accepted=at("spec.action", {"a word": "workstepFinished", "64": "a" * 64}),
        refused=at(
            "spec.action",
            {"a placeholder": "##Action##", "a digit first": "1a", "a hyphen": "a-b", "nothing": ""},
        ),
    ),
    Rule(
        kind=EnvelopeEvent,
        at="spec.parameters",
        says="a parameter's name is a letter, then at most 62 letters",
        accepted=in_place(lambda name: {"spec.parameters": {name: "4711"}}, PARAMETER_NAMES),
        refused=in_place(
            lambda name: {"spec.parameters": {name: "4711"}}, {**NO_PARAMETER_NAMES, "nothing": ""}
        ),
    ),
    Rule(
        kind=EnvelopeEvent,
        at="spec.parameters",
        says="personal data stays out, so no parameter may look like an e-mail address",
        accepted=at("spec.parameters", {"words": {"orderNo": "47/11 ä"}}),
        refused=at("spec.parameters", {"an address": {"who": "jane@acme.example"}}),
    ),
    Rule(
        kind=EnvelopeEvent,
        at="spec.parameters",
        says="a parameter's value has no control characters",
        accepted=at("spec.parameters", {"a long one": {"orderNo": "x" * 256}}),
        refused=at(
            "spec.parameters", {"a line end": {"a": "x\ny"}, "a tab": {"a": "\t"}, "DEL": {"a": "\x7f"}}
        ),
    ),
    Rule(
        kind=EnvelopeEvent,
        at="spec.workstep",
        says="personal data stays out",
        accepted=at(
            "spec.workstep",
            {"all four": {"id": "w", "eventType": "WorkstepFinished", "source": "external", "time": NOON}},
        ),
        refused=at(
            "spec.workstep",
            {
                f"an address as {name}": {name: "jane@acme.example"}
                for name in ("id", "eventType", "source", "time")
            },
        ),
    ),
]

IMPORTS = [
    Rule(
        kind=Import,
        at="",
        says="the name of an Import has at most 63 characters",
        accepted=at("metadata.name", {"63": "a" * 63}),
        refused=at("metadata.name", {"64": "a" * 64}),
    ),
    *(
        Rule(
            kind=Import,
            at=f"spec.{field}",
            says="of an Import only suspend, maxUnfinished and hours change",
            accepted={
                "suspend": {"suspend": True},
                "the bound": {"maxUnfinished": 50},
                "hours": {"hours": {"timeZone": "Europe/Vienna", "from": "19:00", "to": "06:00"}},
            },
            refused={"another": {field: other}},
            before={"spec.suspend": False},
        )
        for field, other in (
            ("organizationRef", {"name": "other"}),
            ("from", "2018-01-01"),
            ("until", "2020-01-01"),
            ("order", "OldestFirst"),
            ("statuses", ["Rejected"]),
            ("senderRefs", [{"name": "jane-doe"}]),
            ("archiveRef", {"name": "vault"}),
            ("dryRun", True),
            ("sampleSize", 5),
            ("copiesOnly", True),
        )
    ),
    Rule(
        kind=Import,
        at="spec.archiveRef",
        says="the name of the Archive of an Import has at most 63 characters",
        accepted=at("spec.archiveRef", {"63": {"name": "a" * 63}}),
        refused=at("spec.archiveRef", {"64": {"name": "a" * 64}}),
    ),
    Rule(
        kind=Import,
        at="spec.until",
        says="until must not be before from",
        accepted=at("spec.until", {"the same day": "2019-01-01", "a later day": "2023-12-31"}),
        refused=at("spec.until", {"the day before": "2018-12-31"}),
    ),
    *(
        Rule(
            kind=Import,
            at=f"spec.{name}",
            says="write a date of the calendar from 2000-01-01 on",
            accepted=at(f"spec.{name}", good),
            refused=at(f"spec.{name}", bad),
        )
        for name, good, bad in (
            ("from", {"the first": "2000-01-01", "a leap day": "2016-02-29"}, {"before": "1999-12-31"}),
            (
                "until",
                {"a leap day": "2024-02-29", "the last day of the calendar": "9999-12-31"},
                {"no leap day": "2023-02-29", "no month": "2020-13-01"},
            ),
        )
    ),
    Rule(
        kind=Import,
        at="spec.hours",
        says="from and to must differ",
        accepted=at("spec.hours", {"a night": {"timeZone": "UTC", "from": "19:00", "to": "06:00"}}),
        refused=at("spec.hours", {"none": {"timeZone": "UTC", "from": "06:00", "to": "06:00"}}),
    ),
]

RULES: tuple[Rule, ...] = (
    *url_rules(),
    *INBOX,
    *duration_rules(),
    *TIMES,
    *ORGANIZATIONS,
    *ARCHIVES,
    *OTHERS,
    *IMPORTS,
)
