"""The return from eSAW: path, query (state, code, error, iss) and cookies of the request."""

import base64
import tempfile
from pathlib import Path

from aiohttp._cookie_helpers import parse_cookie_header

from counterfoil.resources import SecretKeyRef
from counterfoil.resources.organization import OAuth
from counterfoil.sealing import Sealing
from tests.support.builders import AClock, an_organization
from verification.fuzz.target import Check, Target, expect, joined, parts_of, text_of
from webhook.http_server.errors import PageError
from webhook.http_server.forms import parse_query
from webhook.pages.cookies import FlowCookies, OAuthFlow, PageUrls
from webhook.pages.limits import PageLimits
from webhook.pages.routes import match_route, parse_draft_and_user
from webhook.pages.views import OrganizationSite, authorization_code

DRAFT = "0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"
FLOW_COOKIE = b"<flow>"
"""Stands for a valid cookie in an input: that one is sealed with a new key each time."""


def _prepare() -> Check:
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-fuzz-keys-"))
    (folder / "k1").write_bytes(base64.b64encode(bytes(32)))
    clock, limits = AClock(), PageLimits()
    cookies = FlowCookies(Sealing(folder, clock), clock, flow_seconds=300, form_seconds=3600)
    flow = OAuthFlow(
        organization="acme",
        user_id="anna",
        sender="0123456789abcdef",
        draft=DRAFT,
        state="the-state",
        verifier="the-verifier",
        expires=cookies.begin("acme", "anna", "s", DRAFT).expires,
    )
    valid = f"__Secure-{flow.cookie}={cookies.seal(flow)}".encode()
    oauth = OAuth(client_id="counterfoil", client_secret_ref=SecretKeyRef(name="oauth", key="secret"))
    organization = an_organization()
    site = OrganizationSite(organization, oauth, PageUrls(organization, "https://sign.example.com"))

    def check(data: bytes) -> None:
        path, query, header = (text_of(each) for each in parts_of(data.replace(FLOW_COOKIE, valid), 3))
        # aiohttp refuses a path and a query that are not ASCII.
        path, query = (each.encode("ascii", "ignore").decode() for each in (path, query))
        route = match_route(path)
        given = parse_query(query, limits)
        # As the server of the pages reads them.
        sent = {name: morsel.value for name, morsel in parse_cookie_header(header)}
        own = site.urls.own_cookies(sent)
        state = given.get("state", "")
        found = cookies.read_flow(own, route.organization or "acme", state)
        cookies.has_flow(own, "acme")
        expect(found is None or (found == flow and state == flow.state), "only the own flow is found")
        expect(bool(authorization_code(site, given)), "a code is not empty")
        parse_draft_and_user(given)

    return check


TARGET = Target(
    subject="the return from eSAW's OAuth: path, query and cookies",
    documented=(PageError,),
    seeds=(
        joined("/oauth/acme/return", "state=the-state&code=abc", FLOW_COOKIE),
        joined("/oauth/acme/return", "state=the-state&error=access_denied&error_description=x", FLOW_COOKIE),
        joined("/oauth/acme/return", "code=%C3%A4&iss=https://esaw.example.com&state=%ed%a0%80", b"a=b; c"),
        joined("/consent/acme/0123456789abcdef", f"draftId={DRAFT}&userId=anna&code=1", b'a="b\\"; $x=1'),
        joined("/before-send/acme/tags", "error=invalid_request", b"__Secure-counterfoil-flow-0=AgJrMQ"),
    ),
    words=(
        *(b"state= code= error= iss= & % the-state __Secure- ; AgJrMQ").split(b" "),
        FLOW_COOKIE,
    ),
    prepare=_prepare,
)
