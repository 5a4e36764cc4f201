"""
The pod's own identity at Amazon, Microsoft and Google, for Archives without a Secret.

Keys and tokens are kept until shortly before they expire. The metadata services of the clouds are asked
without a proxy; no redirect is followed, and each answer is bounded. The hosts come from the environment of
the pod and from the code, never from an Archive, except for Amazon's region, whose form is checked.
"""

import asyncio
import json
import math
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies_environment

import httpx

from counterfoil.archives.backends._object_store.sigv4 import SigningCredentials
from counterfoil.clock import Clock
from counterfoil.untrusted.http_transport import unchecked_client
from counterfoil.untrusted.tls_handshake import without_finite_fields

MARGIN = timedelta(minutes=5)
"""Time before its end at which a key or token is replaced."""

SHORT_MARGIN = timedelta(seconds=30)
"""As ``MARGIN``, for one that is valid for a few minutes only."""

LONGEST_USE = timedelta(hours=1)
"""Maximum time for which one that expires is kept: its end can be a date, and the clock of the machine wrong
when it was obtained."""

MAX_IDENTITY_BYTES = 64 * 1024
"""Bytes of one answer."""

METADATA_TIMEOUT_SECONDS = 5.0
TOKEN_TIMEOUT_SECONDS = 20.0

AMAZON_METADATA = "http://169.254.169.254"
AMAZON_CONTAINER = "http://169.254.170.2"
AZURE_METADATA = "http://169.254.169.254"
AZURE_AUTHORITY = "https://login.microsoftonline.com"
AZURE_RESOURCE = "https://storage.azure.com/"
GOOGLE_METADATA = "metadata.google.internal"

T = TypeVar("T")


class NoIdentity(Exception):
    """The environment gives no identity, or the service that gives one does not work."""


@dataclass(frozen=True)
class Expiring(Generic[T]):
    """A key or token, and the time for which it is valid from now on; None: it does not expire."""

    value: T = field(repr=False)
    lifetime: timedelta | None = None


Source = Callable[[], Awaitable[Expiring[T]]]
"""Obtains a key or token. Raises ``NoIdentity``."""


class Cached(Generic[T]):
    """Keeps a key or token until shortly before its end, by the clock that is never set."""

    def __init__(self, source: Source[T], clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: Expiring[T] | None = None
        self._renewal = math.inf
        """Monotonic time from which on another one is obtained."""

    async def get(self) -> T:
        """Return one that is valid. Raises ``NoIdentity``."""
        async with self._lock:
            now = self._clock.monotonic()
            if self._known is None or now >= self._renewal:
                self._known = await self._source()
                self._renewal = now + _seconds_of_use(self._known.lifetime)
            return self._known.value

    def drop(self, refused: T) -> None:
        """Obtain another one at the next call, unless this one was replaced already."""
        if self._known is not None and self._known.value == refused:
            self._known = None


def _seconds_of_use(lifetime: timedelta | None) -> float:
    if lifetime is None:
        return math.inf
    margin = MARGIN if lifetime > 2 * MARGIN else SHORT_MARGIN
    return min(lifetime - margin, LONGEST_USE).total_seconds()


async def ask(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    is_metadata: bool = False,
) -> bytes:
    """
    Ask a service that gives identities; return its answer.

    ``is_metadata`` is for services that are reached without a proxy. Raises ``NoIdentity``.
    """
    timeout = METADATA_TIMEOUT_SECONDS if is_metadata else TOKEN_TIMEOUT_SECONDS
    sent = {"Accept-Encoding": "identity", **(headers or {})}
    body = bytearray()
    trust = _trust(url, from_environment=not is_metadata)
    try:
        async with (
            asyncio.timeout(timeout),
            unchecked_client(trust, httpx.Timeout(timeout), trust_env=not is_metadata) as http,
            http.stream(method, url, headers=sent, data=None if form is None else dict(form)) as response,
        ):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_IDENTITY_BYTES:
                    raise NoIdentity(f"{url} gives too long an answer")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise NoIdentity(f"{urlsplit(url).netloc} could not be reached") from error
    if not response.is_success:
        raise NoIdentity(f"{urlsplit(url).netloc} answered {response.status_code}")
    return bytes(body)


def _trust(url: str, *, from_environment: bool) -> ssl.SSLContext:
    """Return the context for an address and for proxies of the environment. If none of them has TLS, it
    trusts nobody: to read the public authorities takes 40 ms of CPU, and a metadata service has no TLS."""
    proxies = getproxies_environment().values() if from_environment else ()
    if url.startswith("http:") and not any(each.lower().startswith("https:") for each in proxies):
        return without_finite_fields(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return without_finite_fields(httpx.create_ssl_context(trust_env=from_environment))


# -- Amazon --------------------------------------------------------------------------------------------------


def amazon_identity(environ: Mapping[str, str], region: str, clock: Clock) -> Source[SigningCredentials]:
    """Return the source of the pod's keys for S3: keys, web identity, container, or instance."""

    async def static() -> Expiring[SigningCredentials]:
        return Expiring(
            SigningCredentials(
                environ["AWS_ACCESS_KEY_ID"],
                environ["AWS_SECRET_ACCESS_KEY"],
                environ.get("AWS_SESSION_TOKEN") or None,
                region,
            )
        )

    async def web_identity() -> Expiring[SigningCredentials]:
        suffix = ".cn" if region.startswith("cn-") else ""
        service = environ.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{region}.amazonaws.com{suffix}"
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": environ["AWS_ROLE_ARN"],
            "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME") or "counterfoil",
            "WebIdentityToken": await _file(environ["AWS_WEB_IDENTITY_TOKEN_FILE"]),
        }
        answer = await ask("POST", f"{service.rstrip('/')}/", form=form)
        return _amazon_credentials(_xml_texts(answer), region, clock)

    async def container() -> Expiring[SigningCredentials]:
        relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        url = f"{AMAZON_CONTAINER}{relative}" if relative else environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            token = await _file(path)
        headers = {"Authorization": token} if token else {}
        return _amazon_credentials(
            _json(await ask("GET", url, headers=headers, is_metadata=True)), region, clock
        )

    async def instance() -> Expiring[SigningCredentials]:
        service = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or AMAZON_METADATA).rstrip("/")
        seconds = {"X-aws-ec2-metadata-token-ttl-seconds": "600"}
        url = f"{service}/latest/api/token"
        token = (await ask("PUT", url, headers=seconds, is_metadata=True)).decode("ascii", "replace")
        headers = {"X-aws-ec2-metadata-token": _header(token)}
        url = f"{service}/latest/meta-data/iam/security-credentials/"
        role = (await ask("GET", url, headers=headers, is_metadata=True)).decode("ascii", "replace").strip()
        answer = await ask("GET", f"{url}{quote(role, safe='')}", headers=headers, is_metadata=True)
        return _amazon_credentials(_json(answer), region, clock)

    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        return static
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
        return web_identity
    if environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or environ.get(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    ):
        return container
    return instance


def _amazon_credentials(texts: Mapping[str, str], region: str, clock: Clock) -> Expiring[SigningCredentials]:
    session = texts.get("SessionToken") or texts.get("Token") or ""
    try:
        key = SigningCredentials(
            _header(texts["AccessKeyId"]), texts["SecretAccessKey"], _header(session), region
        )
        return Expiring(key, _time(texts["Expiration"]) - clock.now())
    except KeyError as missing:
        raise NoIdentity("the answer has no key") from missing


# -- Microsoft -----------------------------------------------------------------------------------------------


def azure_identity(environ: Mapping[str, str]) -> Source[str]:
    """Return the source of the pod's token for Azure Blob Storage: workload identity or managed identity."""

    async def static() -> Expiring[str]:
        return Expiring(_header(environ["AZURE_STORAGE_TOKEN"]))

    async def workload() -> Expiring[str]:
        authority = (environ.get("AZURE_AUTHORITY_HOST") or AZURE_AUTHORITY).rstrip("/")
        tenant = quote(environ["AZURE_TENANT_ID"], safe="")
        form = {
            "grant_type": "client_credentials",
            "client_id": environ["AZURE_CLIENT_ID"],
            "scope": f"{AZURE_RESOURCE}.default",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": await _file(environ["AZURE_FEDERATED_TOKEN_FILE"]),
        }
        return _token(await ask("POST", f"{authority}/{tenant}/oauth2/v2.0/token", form=form))

    async def managed() -> Expiring[str]:
        query = {"api-version": "2019-08-01", "resource": AZURE_RESOURCE}
        if client := environ.get("AZURE_CLIENT_ID"):
            query["client_id"] = client
        url = f"{AZURE_METADATA}/metadata/identity/oauth2/token?{urlencode(query)}"
        return _token(await ask("GET", url, headers={"Metadata": "true"}, is_metadata=True))

    if environ.get("AZURE_STORAGE_TOKEN"):
        return static
    needed = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")
    return workload if all(environ.get(name) for name in needed) else managed


# -- Google --------------------------------------------------------------------------------------------------


def google_identity(environ: Mapping[str, str]) -> Source[str]:
    """Return the source of the pod's token for Google Cloud Storage: its metadata service."""

    async def metadata() -> Expiring[str]:
        host = environ.get("GCE_METADATA_HOST") or GOOGLE_METADATA
        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        return _token(await ask("GET", url, headers={"Metadata-Flavor": "Google"}, is_metadata=True))

    return metadata


# -- Answers -------------------------------------------------------------------------------------------------


def _token(answer: bytes) -> Expiring[str]:
    """Read the answer of OAuth's token endpoint. (RFC 6749, section 5.1)"""
    texts = _json(answer)
    try:
        seconds = min(max(float(texts["expires_in"]), 0.0), 86_400.0)
        return Expiring(_header(texts["access_token"]), timedelta(seconds=seconds))
    except (KeyError, ValueError) as error:
        raise NoIdentity("the answer has no token") from error


def _json(answer: bytes) -> dict[str, str]:
    try:
        read = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise NoIdentity("the answer is no JSON") from error
    return {str(key): str(value) for key, value in read.items()} if isinstance(read, dict) else {}


def _xml_texts(answer: bytes) -> dict[str, str]:
    found = re.findall(rb"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>([^<&]{1,8192})</", answer)
    return {name.decode(): text.decode("ascii", "replace") for name, text in found}


def _time(text: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise NoIdentity("the answer has no time") from error
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def _header(text: str) -> str:
    """Return a text that becomes a header. Raises ``NoIdentity`` if it can't be one."""
    text = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise NoIdentity("the answer has no text for a header")
    return text


async def _file(path: str) -> str:
    try:
        return (await asyncio.to_thread(Path(path).read_text)).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoIdentity(f"{path} can't be read") from error
