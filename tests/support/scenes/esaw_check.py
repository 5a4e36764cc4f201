"""
The subject of a check of eSAW: an organization of a stand-in, a sender, and an OAuth application. And an eSAW
with answers that are as large as a check reads.
"""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from counterfoil.callback_auth import token_hash
from counterfoil.esaw import ApiToken
from counterfoil.esaw.transport import RawResponse
from counterfoil.esaw_check.probes import EsawCheckSubject
from counterfoil.esaw_check.responses import NoAnswer
from counterfoil.resources import Organization
from counterfoil.resources.organization import (
    CallbackURLs,
    CheckOutcome,
    OrganizationCheckResult,
    OrganizationStatus,
)
from sandbox.esaw import StandIn, User
from tests.support.builders import a_sender, an_organization

PAGES_URL = "https://sign.example"


def a_check_subject(esaw: StandIn, user: User) -> EsawCheckSubject:
    """Build the subject of a check with the key of that user, without an envelope and a draft."""
    app = esaw.register_app(name="Counterfoil", redirect_uris=[f"{PAGES_URL}/oauth/acme/return"])
    oauth = {
        "clientID": app.client_id,
        "clientSecretRef": {"name": "oauth", "key": "secret"},
        "publicURL": PAGES_URL,
    }
    return EsawCheckSubject(
        an_organization(baseURL=esaw.url, oauth=oauth, beforeSend={"fields": []}),
        sender=a_sender(userID=user.user_id),
        token=ApiToken.parse(user.token, esaw.url),
        client_secret=app.client_secret,
        client_secret_origin=esaw.url,
    )


HITS = [{"Id": str(uuid.UUID(int=number)), "Status": "Completed"} for number in range(60)]
MIB = 1024 * 1024


def padded(members: dict[str, object], size: int, *, dense: bool) -> bytes:
    """Return JSON of almost this size, with one long text or with many members."""
    begin = json.dumps(members).encode()[:-1]
    room = size - len(begin) - 1024
    if dense:
        more = b",".join(b'"%07d":1' % number for number in range(min(room // 12, 990_000)))
    else:
        more = b'"x":"' + b"a" * room + b'"'
    return begin + b"," + more + b"}"


@asynccontextmanager
async def hostile_esaw(*, dense: bool) -> AsyncIterator[str]:
    """Run an eSAW whose search results have 16 MiB and whose other answers have 1 MiB; yield its URL."""
    who = {"UserId": HITS[0]["Id"], "Email": "a@example.com", "GivenName": "A", "Surname": "B"}
    found = padded({"Envelopes": HITS}, 16 * MIB, dense=dense)
    other = padded({**who, "Id": "x", "EnvelopeStatus": "Completed"}, MIB, dense=dense)

    async def answer(request: web.Request) -> web.Response:
        body = found if request.path.endswith("/find") else other
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def a_subject_of(url: str) -> EsawCheckSubject:
    """Build the subject of a check of the eSAW at this address."""
    token = ApiToken.parse("a" * 40, url)
    return EsawCheckSubject(an_organization(baseURL=url), sender=a_sender(), token=token)


AS_EXPECTED, DEVIATES, NOT_TESTABLE = CheckOutcome


NOT_ASKED = NoAnswer("The time ended.")


def says(content: Any, status: int = 200) -> RawResponse:
    """An answer in JSON."""
    return RawResponse(status, "application/json", body=json.dumps(content).encode())


def error(status: int, error_id: str) -> RawResponse:
    """An error of eSAW."""
    return says({"ErrorId": error_id, "Message": "No.", "TraceId": "t"}, status)


def page(status: int = 200) -> RawResponse:
    """A web page of anything."""
    return RawResponse(status, "text/html; charset=utf-8", body=b"<!doctype html><title>Log in</title>")


def bare(status: int) -> RawResponse:
    """An answer without a body."""
    return RawResponse(status)


def outcome(line: OrganizationCheckResult) -> tuple[CheckOutcome, str | None]:
    return line.outcome, line.found


COMPLETED, REJECTED = says({"EnvelopeStatus": "Completed"}), says({"EnvelopeStatus": "Rejected"})


TOKEN = "a-token-of-27-characters-xx"


OURS = f"https://hooks.example/callbacks/acme/{TOKEN}?envelopeId=##EnvelopeId##&action=##Action##"


def an_organization_with_urls(**spec: Any) -> Organization:
    """An Organization that knows its address."""
    urls = CallbackURLs(envelope=OURS.replace(TOKEN, "<token>"), status="", workstep="")
    status = OrganizationStatus(callback_urls=urls, callback_token_hashes=(token_hash(TOKEN, bytes(16)),))
    return replace(an_organization(**spec), status=status)


OAUTH = {"clientID": "c", "clientSecretRef": {"name": "s", "key": "k"}, "publicURL": "https://sign.example"}
