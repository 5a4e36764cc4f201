"""
Servers for the contract tests of several kinds of archives, which refuse some requests.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus

from counterfoil.resources.archive import (
    ArchiveSpec,
    CredentialsReference,
    Http,
    HttpMode,
    SignaturePolicy,
    VerifyMode,
)
from sandbox.servers.http_document_system import DocumentSystem
from sandbox.servers.proxies import Instead, Proxy, Ticks, TrapPoint


@asynccontextmanager
async def refusing(
    upstream: str, methods: Collection[str], status: int, body: bytes = b""
) -> AsyncIterator[str]:
    """Give the address of a proxy that answers requests of these methods itself, and passes on the others."""

    async def refuse() -> None:
        # As each server does that wants another login.
        login = {"WWW-Authenticate": "Basic"} if status == HTTPStatus.UNAUTHORIZED else {}
        raise Instead(status, body, "application/xml", login)

    async with Proxy(upstream, ticks=Ticks()) as proxy:
        proxy.trap(lambda passage: passage.method in methods, TrapPoint.ARRIVED, refuse, times=None)
        yield proxy.url


def an_http_spec(
    url: str,
    *,
    mode: HttpMode = HttpMode.PER_FILE,
    verify: VerifyMode = VerifyMode.READ_BACK,
    signatures: SignaturePolicy = SignaturePolicy.REPORT,
) -> ArchiveSpec:
    return ArchiveSpec(
        http=Http(url=url, mode=mode, credentials_secret_ref=CredentialsReference(name="dms")),
        verify=verify,
        signatures=signatures,
    )


def login_of(system: DocumentSystem) -> dict[str, bytes]:
    return {"signingSecret": system.signing_secret.encode(), "bearerToken": system.token.encode()}
