"""
What a process can be told: one frozen dataclass per process, one field per setting.

A setting ``private_listen`` is read from ``COUNTERFOIL_PRIVATE_LISTEN`` or ``--private-listen``; the flag wins, an
empty text means "not set". The docstring under each field is what ``--help``, the manual and the chart say about
it, so it names the unit and why one would change it; the default is printed from the field itself.

Nothing here holds a secret, only where secrets are. Unknown ``COUNTERFOIL_*`` variables are passed over, because
Kubernetes makes some of its own for every Service (``COUNTERFOIL_RECEIVER_SERVICE_HOST``).
"""

import argparse
import ast
import inspect
import itertools
import math
import sys
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, Self, TypeVar, get_args, get_type_hints

from counterfoil.durations import Duration
from counterfoil.resources import SHARD_COUNT

PREFIX = "COUNTERFOIL_"


class ProcessSettingsInvalid(ValueError):
    """A setting that cannot be; the message is one line with its name, what is wrong and an example."""


class ListenAddress(NamedTuple):
    """A host and a TCP port to listen on; port 0 takes a free one."""

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


class LogLevel(StrEnum):
    """From which severity on something is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    JSON = "json"
    TEXT = "text"


def setting_metadata(example: str, *, at_least: float | None = None) -> Mapping[str, Any]:
    """Tell more about a setting: an example for error messages, and the least value that makes sense."""
    return {"example": example, "at_least": at_least}


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """The settings that every process has."""

    PROGRAM: ClassVar[str] = "python -m counterfoil"

    namespace: str | None = field(default=None, metadata=setting_metadata("contracts"))
    """Namespace to work in. Not set: the pod's own; outside a pod `default`. One release serves one namespace."""

    listen: ListenAddress = field(
        default=ListenAddress("0.0.0.0", 8080), metadata=setting_metadata("0.0.0.0:8080")
    )
    """Host and port of the public side. Port 0 takes a free one and logs it."""

    private_listen: ListenAddress = field(
        default=ListenAddress("0.0.0.0", 9090), metadata=setting_metadata("0.0.0.0:9090")
    )
    """Host and port of /healthz, /readyz and /metrics. Never expose it outside the cluster."""

    log_level: LogLevel = field(default=LogLevel.INFO, metadata=setting_metadata("info"))
    """From which severity on is logged: debug, info, warning or error. info has one line per callback."""

    log_format: LogFormat = field(default=LogFormat.JSON, metadata=setting_metadata("text"))
    """json (one object per line, for log collectors) or text (for people at a terminal)."""

    sealing_keys: Path | None = field(
        default=None, metadata=setting_metadata("/etc/counterfoil/sealing-keys")
    )
    """Folder with one file per key id, 32 random bytes in base64 each. The last name in sort order seals, all open."""

    def check(self) -> None:
        """Raise ``ProcessSettingsInvalid`` when settings that are right by themselves do not go together."""


@dataclass(frozen=True, kw_only=True)
class ReceiverSettings(CommonSettings):
    """Receiver: takes eSignAnyWhere's callbacks and notes each one down as an EnvelopeEvent."""

    PROGRAM: ClassVar[str] = "python -m webhook receiver"

    callback_rate: float = field(default=500.0, metadata=setting_metadata("500", at_least=0.1))
    """Callbacks per second that one organization may have noted down by this process, before 429 is answered.
    Each is a write to the API server: lower it where the API server is small or shared."""

    callback_burst: int = field(default=1000, metadata=setting_metadata("1000", at_least=1))
    """Callbacks of one organization that may come at once on top of the rate, as after an outage of ours."""

    connections: int = field(default=64, metadata=setting_metadata("64", at_least=1))
    """Connections to the API server at most, which is also how many writes are under way at once."""

    drain: Duration = field(default=Duration(0), metadata=setting_metadata("5s"))
    """How long callbacks are still taken after SIGTERM, while /readyz already fails. In a cluster a few seconds,
    until every load balancer knows; eSignAnyWhere repeats what it could not deliver, but only minutes later."""

    grace: Duration = field(default=Duration(seconds=20), metadata=setting_metadata("20s"))
    """Longest time to finish accepted requests and write the delivery counts after that. Together with the drain
    time it has to be shorter than the pod's terminationGracePeriodSeconds."""


@dataclass(frozen=True, kw_only=True)
class PagesSettings(CommonSettings):
    """Pages: where senders consent and say how their documents are filed, before eSignAnyWhere sends them."""

    PROGRAM: ClassVar[str] = "python -m webhook pages"

    listen: ListenAddress = field(
        default=ListenAddress("0.0.0.0", 8081), metadata=setting_metadata("0.0.0.0:8081")
    )
    """Host and port of the public side, without TLS: the ingress before it brings https. Port 0 takes a free one."""

    page_rate: float = field(default=50.0, metadata=setting_metadata("50", at_least=0.1))
    """Requests per second that this process takes, over all people, before it answers that there are too many.
    Sending one envelope takes two to four."""

    page_burst: int = field(default=200, metadata=setting_metadata("200", at_least=1))
    """Requests that may come at once on top of the rate, as on a Monday morning."""

    attempt: Duration = field(default=Duration(seconds=60), metadata=setting_metadata("60s", at_least=1.0))
    """How long one attempt to send a draft may take. Until it is over, no other attempt at the same draft begins, so
    this is also how long a sender waits whose first attempt was cut off. Raise it if eSignAnyWhere is slow."""

    connections: int = field(default=32, metadata=setting_metadata("32", at_least=1))
    """Connections to the API server at most."""

    drain: Duration = field(default=Duration(0), metadata=setting_metadata("5s"))
    """How long requests are still taken after SIGTERM, while /readyz already fails, until every load balancer knows."""

    grace: Duration = field(default=Duration(seconds=20), metadata=setting_metadata("20s"))
    """Longest time to finish accepted requests after that. Together with the drain time it has to be shorter than
    the pod's terminationGracePeriodSeconds; what is cut off is mended by the next attempt or by another replica."""


class SignIn(StrEnum):
    """Where the console gets a person's Kubernetes token from."""

    TOKEN = "token"  # noqa: S105 - a way to sign in
    PROXY = "proxy"


@dataclass(frozen=True, kw_only=True)
class ConsoleSettings(CommonSettings):
    """Console: where administrators see what waits for a person, and solve it with their own rights."""

    PROGRAM: ClassVar[str] = "python -m webhook console"

    listen: ListenAddress = field(
        default=ListenAddress("0.0.0.0", 8082), metadata=setting_metadata("0.0.0.0:8082")
    )
    """Host and port of the public side, without TLS: the ingress before it brings https. Port 0 takes a free one."""

    sign_in: SignIn = field(default=SignIn.TOKEN, metadata=setting_metadata("proxy"))
    """token: people paste a Kubernetes bearer token (`kubectl create token`). proxy: an OIDC proxy before the console
    signs them in and passes theirs with each request as `Authorization: Bearer`; nothing else may then reach it."""

    session: Duration = field(default=Duration(hours=1), metadata=setting_metadata("1h", at_least=60.0))
    """How long somebody stays signed in, if the token itself does not expire earlier."""

    page_rate: float = field(default=50.0, metadata=setting_metadata("50", at_least=0.1))
    """Requests per second that this process takes, over all people, before it answers that there are too many.
    Each open page asks for news every ten seconds."""

    page_burst: int = field(default=200, metadata=setting_metadata("200", at_least=1))
    """Requests that may come at once on top of the rate."""

    proxies: int = field(default=0, metadata=setting_metadata("1", at_least=0))
    """How many proxies stand before the console on every way to it and add to `X-Forwarded-For` whom they were called by, as
    an ingress does. So many entries from its end is the address that a request counts for. 0: whoever connects counts, and
    the header is not believed. Too high a number lets anybody choose an address; too low a one makes all people one."""

    address_rate: float = field(default=10.0, metadata=setting_metadata("10", at_least=0.1))
    """Requests per second of one address (of IPv6: one /64 network) before it is answered that there are too many, so that
    nobody holds up everybody. Raise it where a whole company comes from one address."""

    address_burst: int = field(default=100, metadata=setting_metadata("100", at_least=1))
    """Requests of one address that may come at once on top of that rate."""

    connections: int = field(default=32, metadata=setting_metadata("32", at_least=1))
    """Connections to the API server at most."""

    drain: Duration = field(default=Duration(0), metadata=setting_metadata("5s"))
    """How long requests are still taken after SIGTERM, while /readyz already fails, until every load balancer knows."""

    grace: Duration = field(default=Duration(seconds=20), metadata=setting_metadata("20s"))
    """Longest time to finish accepted requests after that. Together with the drain time it has to be shorter than
    the pod's terminationGracePeriodSeconds."""


@dataclass(frozen=True, kw_only=True)
class ResealSettings(CommonSettings):
    """Reseal: seals every sender's key anew with the newest sealing key, while everything keeps running."""

    PROGRAM: ClassVar[str] = "python -m counterfoil.cli.reseal"

    log_format: LogFormat = field(default=LogFormat.TEXT, metadata=setting_metadata("text"))
    """json (one object per line, for log collectors) or text (for people at a terminal)."""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings(CommonSettings):
    """Controller: archives what was noted down, and cleans up in eSignAnyWhere."""

    PROGRAM: ClassVar[str] = "python -m controller"

    shard: int = field(default=0, metadata=setting_metadata("0", at_least=0))
    """Which part of the envelopes this process takes, counted from 0: those whose shard leaves this remainder."""

    shards: int = field(default=1, metadata=setting_metadata("3", at_least=1))
    """In how many parts the work is divided, which is the number of controller pods."""

    concurrency: int = field(default=32, metadata=setting_metadata("32", at_least=1))
    """Events that this process works on at once, over all organizations. Each needs up to 16 MiB of memory while
    it moves a large document. The limits of each Organization, Sender and Archive hold besides."""

    manifest_key: Path | None = field(
        default=None, metadata=setting_metadata("/etc/counterfoil/manifest-key/private.pem")
    )
    """File with an Ed25519 private key in PEM form that every manifest is sealed with: its signature is filed as
    counterfoil.json.sig beside it. Who has the public key can tell years later that nobody else wrote the manifest.
    Not set: manifests are not sealed."""

    watch_silence: Duration = field(
        default=Duration(minutes=5), metadata=setting_metadata("5m", at_least=1.0)
    )
    """How long nothing may be heard of a watch, not even a bookmark, while the API server answers otherwise, until
    /healthz fails and the pod is started anew. Not below four minutes: a bookmark comes about every minute, and a watch
    that missed one is begun anew by itself and waits for the next."""

    overdue: Duration = field(default=Duration(minutes=2), metadata=setting_metadata("2m", at_least=1.0))
    """How long an event may be due while nobody works on any, until /healthz fails and the pod is started anew."""

    callback_url: str | None = field(default=None, metadata=setting_metadata("https://callbacks.example.com"))
    """Address under which eSignAnyWhere reaches the receiver, for the URLs in each Organization's status.
    Not set: spec.oauth.publicURL of the Organization, else a placeholder."""

    grace: Duration = field(default=Duration(seconds=20), metadata=setting_metadata("20s"))
    """Longest time to let running transfers come to their next safe point after SIGTERM. It has to be shorter than
    the pod's terminationGracePeriodSeconds; what is cut off is repeated after the start, never doubled."""

    def check(self) -> None:
        """Raise ``ProcessSettingsInvalid`` for a shard that no pod of so many can be."""
        if self.shards > SHARD_COUNT:
            raise _invalid(
                "shards", str(self.shards), f"there are only {SHARD_COUNT} parts to share", example="3"
            )
        if self.shard >= self.shards:
            raise _invalid(
                "shard", str(self.shard), f"it must be less than shards ({self.shards})", example="0"
            )


S = TypeVar("S", bound=CommonSettings)


def load(kind: type[S], argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Read a process's settings, or end it: with ``--help`` (status 0), or with one line on stderr (status 2)."""
    try:
        return read(kind, argv, environ)
    except ProcessSettingsInvalid as invalid:
        print(f"{kind.PROGRAM}: {invalid}", file=sys.stderr)
        raise SystemExit(2) from None


def read(kind: type[S], argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Read a process's settings. Raises ``ProcessSettingsInvalid``; ``--help`` prints and exits as argparse does."""
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
    """One setting as people read about it."""

    name: str
    variable: str
    flag: str
    text: str
    default: str
    example: str
    read: Callable[[str], Any]


def describe_settings(kind: type[CommonSettings]) -> tuple[SettingDescription, ...]:
    """Describe every setting of a process, in the order of declaration; also for the manual and the chart."""
    docs, hints = _docs(kind), get_type_hints(kind)
    return tuple(
        SettingDescription(
            name=each.name,
            variable=PREFIX + each.name.upper(),
            flag="--" + each.name.replace("_", "-"),
            text=docs[each.name],
            default="not set" if each.default is None else str(each.default),
            example=each.metadata["example"],
            read=_reader(each.name, hints[each.name], **each.metadata),
        )
        for each in fields(kind)
    )


def _docs(kind: type[CommonSettings]) -> dict[str, str]:
    """Return the docstring under each field; Python itself keeps none, so it is read from the source."""
    docs: dict[str, str] = {}
    for cls in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for declared, documented in itertools.pairwise(statements):
            match declared, documented:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = " ".join(text.split())
    return docs


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


_READERS: Mapping[type, tuple[Callable[[str], Any], str]] = types.MappingProxyType(
    {
        str: (str, "it is no text"),
        int: (int, "it is no whole number"),
        float: (_number, "it is no number"),
        Path: (Path, "it is no path"),
        ListenAddress: (ListenAddress.parse, "it is not host:port"),
        Duration: (Duration.parse, "it is no duration"),
        LogLevel: (lambda text: LogLevel(text.lower()), f"it is none of {', '.join(LogLevel)}"),
        SignIn: (lambda text: SignIn(text.lower()), f"it is none of {', '.join(SignIn)}"),
        LogFormat: (lambda text: LogFormat(text.lower()), f"it is none of {', '.join(LogFormat)}"),
    }
)
"""How each type is read, and what is said about a text that is none."""


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
    """Argparse, with one line for an error instead of its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise ProcessSettingsInvalid(
            f"{message}; a setting is given as in --log-level debug, --help explains all"
        )


def _parser(kind: type[CommonSettings], explained: Sequence[SettingDescription]) -> argparse.ArgumentParser:
    parser = _SettingsParser(
        prog=kind.PROGRAM,
        description=inspect.cleandoc(kind.__doc__ or ""),
        epilog="$KUBECONFIG is honoured; without it the pod's own account is used, else ~/.kube/config.",
        allow_abbrev=False,
    )
    for each in explained:
        parser.add_argument(
            each.flag,
            metavar=each.example,
            help=f"{each.text} Environment: {each.variable}. Default: {each.default}.".replace("%", "%%"),
        )
    return parser
