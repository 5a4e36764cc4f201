"""
Settings of the processes: one frozen dataclass per process, one field per setting.

The setting ``private_listen`` is read from ``COUNTERFOIL_PRIVATE_LISTEN`` or ``--private-listen``. The flag
takes precedence; an empty text means "not set". ``--help``, the manual and the chart show the docstring under
each field, so it names the unit and a reason to change the setting. The default is printed from the field.

No setting holds a secret, only paths of secrets. Unknown ``COUNTERFOIL_*`` variables are ignored, because
Kubernetes sets such variables for every Service (``COUNTERFOIL_RECEIVER_SERVICE_HOST``).
"""

import argparse
import ast
import functools
import inspect
import ipaddress
import itertools
import math
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, Self, TypeVar, get_args, get_type_hints

from counterfoil.durations import Duration
from counterfoil.origin import origin_of
from counterfoil.resources import SHARD_COUNT
from counterfoil.resources.lease import MAX_LEASE_SECONDS, MAX_RETRY_SECONDS

PREFIX = "COUNTERFOIL_"

T = TypeVar("T")


class ProcessSettingsInvalid(ValueError):
    """A setting is invalid; the message is one line with its name, the error and an example."""


class ListenAddress(NamedTuple):
    """A host and a TCP port to listen on; port 0 selects a free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``host:port`` (an IPv6 host in brackets). Raises ``ValueError``."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError("it is not host:port")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
MAX_NAMESPACES = 50
"""Maximum number of namespaces that one release serves."""


def is_namespace(text: str) -> bool:
    """Whether a text can be the name of a namespace (RFC 1123, 2.1)."""
    return _NAMESPACE.fullmatch(text) is not None


class Namespaces(tuple[str, ...]):
    """Names of namespaces, each once."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read names that commas separate. Raises ``ValueError``."""
        names = dict.fromkeys(each.strip() for each in text.split(","))
        if len(names) > MAX_NAMESPACES or not all(map(is_namespace, names)):
            raise ValueError("it is not a list of namespaces")
        return cls(names)


class VolumeRoots(str):
    """A path with ``{namespace}`` as one of its folders: each namespace has its own."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an absolute path. Raises ``ValueError``."""
        folders = text.removesuffix("/").split("/")
        if folders[0] or len(folders) < 2 or folders.count("{namespace}") != 1 or "/../" in f"{text}/":
            raise ValueError("it is not an absolute path with the folder {namespace}")
        if any(each in ("", ".") for each in folders[1:]):
            raise ValueError("it has an empty folder or .")
        return cls("/".join(folders))

    def of(self, namespace: str) -> str:
        """Return the folder of a namespace."""
        return self.replace("{namespace}", namespace)


class IPAddresses(tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]):
    """IP addresses."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read addresses that commas separate. Raises ``ValueError``."""
        return cls(ipaddress.ip_address(each.strip()) for each in text.split(","))


class LogLevel(StrEnum):
    """Lowest severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Format of log lines."""

    JSON = "json"
    TEXT = "text"


def setting(default: T, example: str, *, at_least: float | None = None) -> T:
    """Declare a setting by its default, an example for error messages, and its minimum value."""
    return field(default=default, metadata={"example": example, "at_least": at_least})


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """Settings of every process."""

    PROGRAM: ClassVar[str] = "python -m counterfoil"

    namespace: str | None = setting(None, "contracts")
    """Namespace of the release, which has its Leases. Not set: the pod's namespace; outside a pod `default`.
    Without `--namespaces` and `--namespaces-file` it is the namespace that is served."""

    namespaces: Namespaces | None = setting(None, "contracts,sales")
    """Namespaces to serve, at most 50, separated by commas. The release's own is served only if it is listed.
    The console shows them in its menu, beside its own; each user needs rights in each of them. Not set: only
    the release's own namespace."""

    namespaces_file: Path | None = setting(None, "/etc/counterfoil/namespaces/list")
    """File with the namespaces to serve, one a line, at most 50, instead of `--namespaces`. It is read again
    every 10 seconds, so that a namespace is added or removed without a restart."""

    listen: ListenAddress = setting(ListenAddress("0.0.0.0", 8080), "0.0.0.0:8080")
    """Host and port of the public server. Port 0 selects a free port and logs it."""

    private_listen: ListenAddress = setting(ListenAddress("0.0.0.0", 9090), "0.0.0.0:9090")
    """Host and port of /healthz, /readyz and /metrics. Never expose it outside the cluster."""

    log_level: LogLevel = setting(LogLevel.INFO, "info")
    """Lowest severity that is logged: debug, info, warning or error. info has one line per callback."""

    log_format: LogFormat = setting(LogFormat.JSON, "text")
    """json (one object per line, for log collectors) or text (for a terminal)."""

    sealing_keys: Path | None = setting(None, "/etc/counterfoil/sealing-keys")
    """Folder with one file per key id, each with 32 random bytes in base64. The key whose name is last in
    sort order encrypts, from five minutes after its file appears; all keys decrypt."""

    def check(self) -> None:
        """Raise ``ProcessSettingsInvalid`` when valid settings contradict each other."""
        if self.namespaces is not None and self.namespaces_file is not None:
            wrong = "--namespaces lists the namespaces already; set one of the two"
            example = "/etc/counterfoil/namespaces/list"
            raise _invalid("namespaces_file", str(self.namespaces_file), wrong, example=example)


@dataclass(frozen=True, kw_only=True)
class ReceiverSettings(CommonSettings):
    """Receiver: accepts eSignAnyWhere's callbacks and creates an EnvelopeEvent for each."""

    PROGRAM: ClassVar[str] = "python -m webhook receiver"

    callback_rate: float = setting(50.0, "50", at_least=0.1)
    """Maximum callbacks per second of one organization; above it this process answers 429. 50 are 180,000 in
    an hour, more than any known organization has. Each callback is a write to the API server, and a client
    with a leaked URL can send any number. Raise the rate only for a measured need."""

    callback_burst: int = setting(1000, "1000", at_least=1)
    """Maximum callbacks of one organization at once above the rate, such as after an outage of the
    receiver."""

    connections: int = setting(64, "64", at_least=2)
    """Maximum number of connections to the API server, which is also the maximum number of concurrent
    writes. Each served namespace adds one for the watch of its Organizations."""

    drain: Duration = setting(Duration(0), "5s")
    """Time after SIGTERM during which the process still accepts callbacks while /readyz fails. In a cluster,
    use a few seconds, so that load balancers react. eSignAnyWhere repeats a failed callback only minutes
    later."""

    grace: Duration = setting(Duration(seconds=20), "20s")
    """Timeout for finishing accepted requests and writing the delivery counts after the drain time. The sum
    of both must be shorter than the pod's terminationGracePeriodSeconds."""


@dataclass(frozen=True, kw_only=True)
class BrowserSettings(CommonSettings):
    """Settings of the processes that serve pages to browsers."""

    page_rate: float = setting(50.0, "50", at_least=0.1)
    """Maximum requests per second of all users; above it this process answers 429."""

    page_burst: int = setting(200, "200", at_least=1)
    """Maximum requests at once above the rate."""

    proxies: int = setting(0, "1", at_least=0)
    """Number of proxies in front of this process, on every route, that append the caller's address to
    `X-Forwarded-For`, as an ingress does. The client address of a request is this number of entries from the
    end. 0: the client address is the address that connects, and the header is ignored. With too high a
    number, clients can choose their address; with too low a number, all users share one address."""

    address_rate: float = setting(10.0, "10", at_least=0.1)
    """Maximum requests per second of one address (of IPv6: one /64 network). Above it this process answers
    429, so that one client cannot block the others. Raise it if a whole company uses one address."""

    address_burst: int = setting(100, "100", at_least=1)
    """Maximum requests of one address at once above that rate."""


@dataclass(frozen=True, kw_only=True)
class OutgoingSettings(CommonSettings):
    """Settings of the processes that connect to hosts that an Organization or an Archive names."""

    allow_loopback: bool = setting(False, "true")
    """Whether eSignAnyWhere, an archive or a receiver of notices may be on loopback: true or false. Its URL
    must then have `localhost` or a loopback address. In a pod these are its own ports and those of its
    sidecars, so allow it only for a proxy that runs there. Link-local, multicast and unspecified addresses
    and the metadata services of clouds are always refused."""

    node_addresses: IPAddresses | None = setting(None, "10.0.0.5,fd00::5")
    """Addresses of the node, separated by commas. The chart sets them. Connections to them and to the
    gateway of the pod's network are refused, since a NetworkPolicy often does not apply to them."""

    allow_node: bool = setting(False, "true")
    """Whether eSignAnyWhere, an archive or a receiver of notices may be at an address of the node: true or
    false. Allow it only if such a server or the load balancer is on the node. The ports of the kubelet are at
    the same address. The pod's own addresses are refused in any case."""


@dataclass(frozen=True, kw_only=True)
class PagesSettings(BrowserSettings, OutgoingSettings):
    """Pages: senders consent and choose how their documents are filed, before eSignAnyWhere sends the
    envelopes."""

    PROGRAM: ClassVar[str] = "python -m webhook pages"

    listen: ListenAddress = setting(ListenAddress("0.0.0.0", 8081), "0.0.0.0:8081")
    """Host and port of the public server, without TLS: the ingress terminates https. Port 0 selects a free
    port."""

    page_rate: float = setting(50.0, "50", at_least=0.1)
    """Maximum requests per second of all users; above it this process answers 429.
    Sending one envelope takes two to four requests."""

    page_burst: int = setting(200, "200", at_least=1)
    """Maximum requests at once above the rate, for peaks such as a Monday morning."""

    attempt: Duration = setting(Duration(seconds=60), "60s", at_least=1.0)
    """Timeout for one attempt to send a draft. No other attempt at the same draft begins during this time, so
    a sender whose first attempt was interrupted waits for it. Raise it if eSignAnyWhere is slow."""

    connections: int = setting(32, "32", at_least=1)
    """Maximum number of connections to the API server."""

    drain: Duration = setting(Duration(0), "5s")
    """Time after SIGTERM during which the process still accepts requests while /readyz fails, so that load
    balancers react."""

    grace: Duration = setting(Duration(seconds=20), "20s")
    """Timeout for finishing accepted requests after the drain time. The sum of both must be shorter than the
    pod's terminationGracePeriodSeconds. The next attempt or another replica completes interrupted work."""


class SignIn(StrEnum):
    """Source of a user's Kubernetes token in the console."""

    TOKEN = "token"  # noqa: S105 - a way to sign in
    PROXY = "proxy"


@dataclass(frozen=True, kw_only=True)
class ConsoleSettings(BrowserSettings):
    """Console: administrators see problems that need a person, and solve them with their own permissions."""

    PROGRAM: ClassVar[str] = "python -m webhook console"

    listen: ListenAddress = setting(ListenAddress("0.0.0.0", 8082), "0.0.0.0:8082")
    """Host and port of the public server, without TLS: the ingress terminates https. Port 0 selects a free
    port."""

    sign_in: SignIn = setting(SignIn.TOKEN, "proxy")
    """token: users paste a Kubernetes bearer token (`kubectl create token`). proxy: an OIDC proxy in front of
    the console signs users in and sends their token with each request as `Authorization: Bearer`. Then only
    the proxy may reach the console."""

    public_url: str | None = setting(None, "https://console.example.com")
    """Address of the console for browsers. Required with an OpenID provider, where
    `<address>/oidc/return` must be registered as redirect URI."""

    oidc_issuer: str | None = setting(None, "https://login.example.com/realms/acme")
    """Issuer of an OpenID provider with which users can sign in, in addition to pasting a token. The API
    server must trust this issuer and client (`--oidc-issuer-url` or an AuthenticationConfiguration), because
    the ID token is the user's token."""

    oidc_client_id: str | None = setting(None, "counterfoil")
    """Client id of the console at the OpenID provider. The API server must expect it as the audience."""

    oidc_client_secret: Path | None = setting(None, "/etc/counterfoil/oidc/client-secret")
    """File with the client secret. Not set: a public client, which PKCE alone protects."""

    oidc_scopes: str = setting("openid email", "openid email groups")
    """Scopes of the sign-in. The ID token must contain the claims from which the API server takes name and
    groups."""

    oidc_name: str = setting("OpenID Connect", "Acme login")
    """Name of the OpenID provider on the sign-in page."""

    oidc_ca: Path | None = setting(None, "/etc/counterfoil/oidc/ca.crt")
    """File with CA certificates in PEM that sign the provider's certificate, in addition to public ones."""

    session: Duration = setting(Duration(hours=1), "1h", at_least=60.0)
    """Maximum duration of a session. A session ends earlier when its token expires."""

    session_idle: Duration = setting(Duration(minutes=15), "15m", at_least=60.0)
    """Time after the last click after which a session ends. An open page that refreshes itself does not count
    as a click."""

    page_rate: float = setting(50.0, "50", at_least=0.1)
    """Maximum requests per second of all users; above it this process answers 429.
    Each open page sends a request every ten seconds."""

    connections: int = setting(32, "32", at_least=1)
    """Maximum number of connections to the API server."""

    drain: Duration = setting(Duration(0), "5s")
    """Time after SIGTERM during which the process still accepts requests while /readyz fails, so that load
    balancers react."""

    grace: Duration = setting(Duration(seconds=20), "20s")
    """Timeout for finishing accepted requests after the drain time. The sum of both must be shorter than the
    pod's terminationGracePeriodSeconds."""

    def check(self) -> None:
        """Raise ``ProcessSettingsInvalid`` for an OpenID provider that cannot be used."""
        super().check()
        if self.oidc_issuer is None:
            return
        issuer = "https://login.example.com"
        if not self.oidc_issuer.startswith("https://"):
            raise _invalid("oidc_issuer", self.oidc_issuer, "it must begin with https://", example=issuer)
        if self.sign_in is SignIn.PROXY:
            wrong = "with --sign-in=proxy the proxy signs users in"
            raise _invalid("oidc_issuer", self.oidc_issuer, wrong, example=issuer)
        if self.oidc_client_id is None:
            raise _invalid("oidc_client_id", "", "--oidc-issuer requires it", example="counterfoil")
        if not _is_https_or_loopback(self.public_url or "") or re.search("[?#]", self.public_url or ""):
            wrong = "--oidc-issuer requires the console's address, with https, and without ? and #"
            raise _invalid("public_url", self.public_url or "", wrong, example="https://console.example.com")


def _is_https_or_loopback(url: str) -> bool:
    try:
        origin = origin_of(url)
    except ValueError:
        return False
    return re.fullmatch(r"https://.*|http://127\.0\.0\.1(:[0-9]+)?", origin) is not None


@dataclass(frozen=True, kw_only=True)
class ResealSettings(CommonSettings):
    """Reseal: encrypts every sender's key with the newest sealing key, while all processes keep running."""

    PROGRAM: ClassVar[str] = "python -m counterfoil.cli.reseal"

    digest: str | None = setting(None, "digest")
    """Digest that a run without it printed: the run seals exactly the keys that were shown. Not set: it shows
    the keys and changes nothing."""

    log_format: LogFormat = setting(LogFormat.TEXT, "text")
    """json (one object per line, for log collectors) or text (for a terminal)."""


@dataclass(frozen=True, kw_only=True)
class CreateSealingKeySettings(CommonSettings):
    """Create the first sealing key: a Secret with one random key, unless the Secret exists."""

    PROGRAM: ClassVar[str] = "python -m counterfoil.cli.create_sealing_key"

    secret: str | None = setting(None, "counterfoil-sealing-keys")
    """Name of the Secret. Required."""

    labels: str = setting("", "team=legal,stage=production")
    """Labels of the Secret, as `name=value`, separated by commas."""

    log_format: LogFormat = setting(LogFormat.TEXT, "text")
    """json (one object per line, for log collectors) or text (for a terminal)."""

    def check(self) -> None:
        """Raise ``ProcessSettingsInvalid`` without a name, and for a label that is not `name=value`."""
        super().check()
        if self.secret is None:
            raise ProcessSettingsInvalid(
                "COUNTERFOIL_SECRET (or --secret) is not set; write it as in --secret "
                "counterfoil-sealing-keys"
            )
        if any("=" not in each for each in self.labels.split(",") if each):
            raise ProcessSettingsInvalid(
                f"COUNTERFOIL_LABELS (or --labels) is {self.labels!r:.80}: each label is name=value; write "
                "it as in --labels team=legal,stage=production"
            )


@dataclass(frozen=True, kw_only=True)
class ControllerSettings(OutgoingSettings):
    """Controller: archives the envelopes of all EnvelopeEvents, and deletes archived envelopes in
    eSignAnyWhere."""

    PROGRAM: ClassVar[str] = "python -m controller"

    shards: int = setting(1, "3", at_least=1)
    """Number of parts into which the envelopes are divided. Each part has a Lease, and the controller that
    holds the Lease works on it. Use at most the number of controller pods: more pods are spare, and one pod
    can hold several shards."""

    identity: str | None = setting(None, "counterfoil-controller-7d9c-x2x4z")
    """Name of this process in the Leases, unique among all controllers. In a pod, use the pod's name: a
    restarted container then continues at once. Not set: host name, process id and a random number."""

    lease_duration: Duration = setting(Duration(seconds=15), "15s", at_least=1.0)
    """Time after the last renewal of a Lease at which another controller takes the shard over, in whole
    seconds, at most an hour. A longer time survives longer interruptions of the API server without an
    interruption of the work, and delays the takeover from a lost node."""

    renew_deadline: Duration = setting(Duration(seconds=10), "10s", at_least=1.0)
    """Time without a successful renewal of a Lease after which its holder stops its work. It must be shorter
    than `--lease-duration`."""

    retry_period: Duration = setting(Duration(seconds=2), "2s", at_least=1.0)
    """Interval between renewals of a Lease, and between attempts to acquire a free one. Each pod sends one
    request per shard in this time. 1.2 times the interval must be shorter than `--renew-deadline`, and it is
    at most a minute."""

    concurrency: int = setting(32, "32", at_least=1)
    """Maximum number of events that this process works on at once, over all organizations. Each needs up to
    24 MiB of memory while it transfers a large document. The limits of each Organization, Sender and Archive
    also apply."""

    event_quota: int = setting(100_000, "100000", at_least=1)
    """Number of EnvelopeEvents that the namespace may have, finished ones included: the number in its
    ResourceQuota. Of what other events leave of it, Imports take half, and the other half is left to
    callbacks."""

    volume_roots: VolumeRoots | None = setting(None, "/archive/{namespace}")
    """Folder of each served namespace in the mounted volumes, for Archives of the kind `filesystem`:
    `{namespace}` is replaced by the name. An Archive there uses this folder or one below it. Archives in the
    release's own namespace use any folder. Not set: only those in the release's own namespace use volumes."""

    identity_namespaces: Namespaces | None = setting(None, "contracts,sales")
    """Served namespaces whose Archives may use the identity of the controller's pod at a cloud, separated by
    commas: Archives without a Secret. All of them reach all buckets of this identity. Not set: only the
    release's own."""

    manifest_key: Path | None = setting(None, "/etc/counterfoil/manifest-key/private.pem")
    """File with an Ed25519 private key in PEM format that signs every manifest. The signature is filed beside
    the manifest as counterfoil.json.sig. With the public key, an auditor can verify years later that
    Counterfoil wrote the manifest. Not set: manifests are not signed."""

    transfer_rate: int = setting(16384, "16384", at_least=1)
    """Minimum rate of each transfer, in bytes per second: from eSignAnyWhere, to an archive, and back for the
    comparison. A slower transfer is given up, and its event is tried again later. Lower it for an archive
    behind a slow line; each slow transfer holds a place of its Organization for longer."""

    transfer_window: Duration = setting(Duration(seconds=45), "45s", at_least=1.0)
    """Time for which a transfer may wait without a byte, in addition to the time that `--transfer-rate`
    allows for its bytes."""

    probe_timeout: Duration = setting(Duration(seconds=30), "30s", at_least=1.0)
    """Maximum time of a probe of an archive: a small file is written, read and removed. After it the Archive
    is not ready, with the reason ArchiveUnresponsive."""

    attempt_timeout: Duration = setting(Duration(hours=6), "6h", at_least=600.0)
    """Maximum time of one attempt in one phase of an event, also if each transfer has the minimum rate. After
    it the attempt ends, and the event is tried again later. Raise it for envelopes that are larger than what
    `--transfer-rate` moves in this time."""

    watch_silence: Duration = setting(Duration(minutes=5), "5m", at_least=1.0)
    """Maximum time without data of a watch, not even a bookmark, while the API server answers other requests.
    After it /healthz fails and Kubernetes restarts the pod. Use at least four minutes: a bookmark arrives
    about every minute, and a watch that missed one restarts automatically and waits for the next."""

    overdue: Duration = setting(Duration(minutes=2), "2m", at_least=1.0)
    """Maximum time for which an event is due while the controller works on none. After it /healthz fails and
    Kubernetes restarts the pod."""

    key_confirmation: Duration = setting(Duration(minutes=1), "1m", at_least=1.0)
    """Time after which eSignAnyWhere is asked again about a sender's key that was answered with 401. Only a
    second 401 counts as a refusal: the first one may come from a proxy."""

    callback_url: str | None = setting(None, "https://callbacks.example.com")
    """Address at which eSignAnyWhere reaches the receiver, for the URLs in each Organization's status.
    Not set: spec.oauth.publicURL of the Organization, else a placeholder."""

    grace: Duration = setting(Duration(seconds=20), "20s")
    """Timeout for running transfers to reach their next safe point after SIGTERM. It must be shorter than the
    pod's terminationGracePeriodSeconds. The controller repeats interrupted work after its start and stores
    nothing twice."""

    def check(self) -> None:
        """Raise ``ProcessSettingsInvalid`` for impossible ``shards``, durations of the Leases, and an address
        for callbacks that is none."""
        super().check()
        if self.callback_url is not None:
            self._check_callback_url(self.callback_url)
        if self.shards > SHARD_COUNT:
            raise _invalid("shards", str(self.shards), f"the maximum is {SHARD_COUNT}", example="3")
        if self.lease_duration.total_seconds() % 1:
            # A Lease has whole seconds: other controllers would take the shard over before its holder stops.
            reason = "a Lease has whole seconds"
            raise _invalid("lease_duration", str(self.lease_duration), reason, example="15s")
        if self.lease_duration.total_seconds() > MAX_LEASE_SECONDS:
            reason = f"the maximum is {MAX_LEASE_SECONDS} seconds; other controllers wait no longer"
            raise _invalid("lease_duration", str(self.lease_duration), reason, example="15s")
        if self.renew_deadline >= self.lease_duration:
            reason = f"it must be less than --lease-duration ({self.lease_duration})"
            example = _seconds(self.lease_duration * 2 / 3)
            raise _invalid("renew_deadline", str(self.renew_deadline), reason, example=example)
        if self.retry_period.total_seconds() > MAX_RETRY_SECONDS:
            reason = (
                f"the maximum is {MAX_RETRY_SECONDS} seconds; people see a holder that waits longer as gone"
            )
            raise _invalid("retry_period", str(self.retry_period), reason, example="2s")
        if 1.2 * self.retry_period >= self.renew_deadline:
            reason = f"1.2 times its value must be less than --renew-deadline ({self.renew_deadline})"
            example = _seconds(self.renew_deadline / 5)
            raise _invalid("retry_period", str(self.retry_period), reason, example=example)

    def _check_callback_url(self, url: str) -> None:
        # The path of each callback is appended to it.
        example = "https://callbacks.example.com"
        if (wrong := receiver_address_fault(url)) is not None:
            raise _invalid("callback_url", url, wrong, example=example)


def _seconds(time: timedelta) -> str:
    """Return the whole seconds of a time as a setting: at least one, as the durations of a Lease need."""
    return f"{max(1, int(time.total_seconds()))}s"


def receiver_address_fault(url: str) -> str | None:
    """Return why a text can't be the address of a receiver; None: it can."""
    try:
        origin_of(url)
    except ValueError:
        return "it is no address of a server"
    if re.search(r"[?#\s]|[^/]/callbacks(/|$)", url):
        return "it is the address of the receiver alone, without the path of callbacks, ? and #"
    return None


S = TypeVar("S", bound=CommonSettings)


def load(kind: type[S], argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Read a process's settings. ``--help`` exits with status 0; an error prints one line and exits with
    status 2."""
    try:
        return read(kind, argv, environ)
    except ProcessSettingsInvalid as invalid:
        print(f"{kind.PROGRAM}: {invalid}", file=sys.stderr)
        raise SystemExit(2) from None


def read(kind: type[S], argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Read a process's settings. Raises ``ProcessSettingsInvalid``; ``--help`` prints the help and exits."""
    explained = describe_settings(kind)
    flags = vars(_parser(kind, explained).parse_args(argv))
    values: dict[str, Any] = {}
    for each in explained:
        text = flags[each.name] if flags[each.name] is not None else environ.get(each.variable, "")
        if text != "":
            values[each.name] = each.read(text)
    settings = kind(**values)
    settings.check()
    return settings


class SettingDescription(NamedTuple):
    """One setting, for the help and the reference page."""

    name: str
    variable: str
    flag: str
    text: str
    default: str
    example: str
    at_least: float | None
    """Minimum of a number, or of a duration in seconds."""
    read: Callable[[str], Any]


def describe_settings(kind: type[CommonSettings]) -> tuple[SettingDescription, ...]:
    """Return every setting of a process in the order of declaration; also for the manual and the chart."""
    docs, hints = _docs(kind), get_type_hints(kind)
    return tuple(
        SettingDescription(
            name=each.name,
            variable=PREFIX + each.name.upper(),
            flag="--" + each.name.replace("_", "-"),
            text=docs[each.name],
            default=_default_text(each.default),
            example=each.metadata["example"],
            at_least=each.metadata["at_least"],
            read=_reader(each.name, hints[each.name], **each.metadata),
        )
        for each in fields(kind)
    )


def _default_text(default: Any) -> str:
    if default is None:
        return "not set"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def _docs(kind: type[CommonSettings]) -> dict[str, str]:
    """Return the docstring under each field, read from the source: Python does not keep it."""
    return {name: text for cls in reversed(kind.__mro__[:-1]) for name, text in _own_docs(cls).items()}


@functools.cache
def _own_docs(cls: type) -> Mapping[str, str]:
    """Return the docstrings under the fields that the class itself declares."""
    docs: dict[str, str] = {}
    for declared, documented in itertools.pairwise(_classes(cls.__module__).get(cls.__name__, ())):
        match declared, documented:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


@functools.cache
def _classes(module: str) -> Mapping[str, Sequence[ast.stmt]]:
    """Return the statements of each class of a module. ``inspect.getsource`` of a class would parse the whole
    module for each."""
    parsed = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: each.body for each in parsed.body if isinstance(each, ast.ClassDef)}


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _truth(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


_READERS: Mapping[type, tuple[Callable[[str], Any], str]] = types.MappingProxyType(
    {
        str: (str, "it is not a text"),
        int: (int, "it is not a whole number"),
        float: (_number, "it is not a number"),
        bool: (_truth, "it is neither true nor false"),
        Path: (Path, "it is not a path"),
        ListenAddress: (ListenAddress.parse, "it is not host:port"),
        Namespaces: (
            Namespaces.parse,
            f"it is not a list of up to {MAX_NAMESPACES} names of namespaces, separated by commas",
        ),
        VolumeRoots: (VolumeRoots.parse, "it is not an absolute path with the folder {namespace}"),
        IPAddresses: (IPAddresses.parse, "it is not a list of IP addresses, separated by commas"),
        Duration: (Duration.parse, "it is not a duration"),
        LogLevel: (lambda text: LogLevel(text.lower()), f"it is not one of {', '.join(LogLevel)}"),
        SignIn: (lambda text: SignIn(text.lower()), f"it is not one of {', '.join(SignIn)}"),
        LogFormat: (lambda text: LogFormat(text.lower()), f"it is not one of {', '.join(LogFormat)}"),
    }
)
"""Parser of each type, and the error message for an invalid text."""


def _reader(name: str, hint: Any, *, example: str, at_least: float | None) -> Callable[[str], Any]:
    wanted = next((each for each in get_args(hint) if each is not types.NoneType), hint)
    convert, wrong = _READERS[wanted]

    def read_text(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            raise _invalid(name, text, wrong, example=example) from None
        if at_least is not None and _size(value) < at_least:
            raise _invalid(name, text, f"it must be at least {at_least:g}", example=example)
        return value

    return read_text


def _size(value: Any) -> float:
    return float(value.total_seconds() if isinstance(value, Duration) else value)


def _invalid(name: str, text: str, wrong: str, *, example: str) -> ProcessSettingsInvalid:
    variable, flag = PREFIX + name.upper(), "--" + name.replace("_", "-")
    return ProcessSettingsInvalid(
        f"{variable} (or {flag}) is {text!r:.80}: {wrong}; write it as in {flag} {example}"
    )


class _SettingsParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ProcessSettingsInvalid(f"{message}; write a setting as in --log-level debug, --help lists all")


def _parser(kind: type[CommonSettings], explained: Sequence[SettingDescription]) -> argparse.ArgumentParser:
    parser = _SettingsParser(
        prog=kind.PROGRAM,
        description=inspect.cleandoc(kind.__doc__ or ""),
        epilog=(
            "Configuration of the API server: $KUBECONFIG, else the pod's ServiceAccount, else "
            "~/.kube/config."
        ),
        allow_abbrev=False,
    )
    for each in explained:
        parser.add_argument(
            each.flag,
            metavar=each.example,
            help=f"{each.text} Environment: {each.variable}. Default: {each.default}.".replace("%", "%%"),
        )
    return parser
