"""
OAuth: `GET /Auth/Authorize` for browsers, `POST /ApiToken/Retrieve` for the application behind its page (RFC 6749, 4.1).

A browser goes to an application only with a client_id and a redirect_uri that belong together, character for character; until
then every refusal is a page here. What a code is worth, consents decides; who sits at the browser, sessions knows.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from aiohttp import web

from sandbox.esaw import pages
from sandbox.esaw.answer import Answer, html_answer, json_answer, redirect_answer
from sandbox.esaw.behaviour import Behaviour
from sandbox.esaw.consents import Challenge, Consents, OAuthProblem, challenge
from sandbox.esaw.estate import Estate
from sandbox.esaw.forms import FormProblem, read_form, single
from sandbox.esaw.gate import Call
from sandbox.esaw.model import OAuthApp, User
from sandbox.esaw.sessions import Session, Sessions

LOGIN_PATH: Final = "/Auth/Login"
_PRIVATE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class _WayBack:
    """The way back to the application, with whatever it has to learn."""

    redirect_uri: str
    state: str | None
    issuer: str | None

    def with_code(self, code: str) -> Answer:
        """The user allowed it."""
        return self._go({"code": code})

    def with_problem(self, problem: OAuthProblem) -> Answer:
        """The user did not, or the request was wrong."""
        return self._go({"error": problem.error, "error_description": problem.description})

    def _go(self, told: Mapping[str, str]) -> Answer:
        more = {"state": self.state, "iss": self.issuer}
        query = urlencode({**told, **{name: value for name, value in more.items() if value}})
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        return redirect_answer(f"{self.redirect_uri.removesuffix('?')}{joint}{query}")


class OAuth:
    """The two endpoints over one estate."""

    def __init__(
        self,
        estate: Estate,
        consents: Consents,
        sessions: Sessions,
        behaviour: Callable[[], Behaviour],
    ) -> None:
        self._estate = estate
        self._consents = consents
        self._sessions = sessions
        self._behaviour = behaviour

    # The browser's side

    async def authorize(self, call: Call) -> Answer:
        """GET: log in, ask for consent where there is none, else back with a code. POST: the answer to the question."""
        query = list(call.request.query.items())
        try:
            app, redirect_uri = self._addressee(query)
        except (OAuthProblem, FormProblem) as problem:
            description = problem.description if isinstance(problem, OAuthProblem) else str(problem)
            return html_answer(pages.refusal("This request cannot be trusted", description), 400)
        back = self._way_back(call.request, redirect_uri)
        try:
            promised = self._checked(query)
        except OAuthProblem as problem:
            return back.with_problem(problem)

        session = self._sessions.of(call.request)
        if session is None or session.user is None:
            return login_first(call.request)
        if call.request.method == "POST":
            try:
                self._take_decision(call, session, session.user, app)
            except OAuthProblem as problem:
                return back.with_problem(problem)
            except FormProblem:
                return html_answer(pages.out_of_date(call.request.path_qs), 400)
        elif not self._consents.has_given(session.user, app):
            page = pages.consent(
                session, session.user, app, urlsplit(redirect_uri).netloc, call.request.path_qs
            )
            return html_answer(page)
        return back.with_code(self._consents.new_code(session.user, app, redirect_uri, promised))

    def client_of(self, request: web.Request, body: bytes) -> str:
        """The application that a request names, truly or not; empty if there is no such one, or none is named."""
        client_id = request.query.get("client_id", "")
        if not client_id:
            try:
                form = read_form(request.content_type, body)
                basic = request.headers.get("Authorization")
                client_id = _basic(basic)[0] if basic else form.get("client_id", "")
            except (OAuthProblem, FormProblem):
                return ""
        return client_id if self._consents.app(client_id) else ""

    def _addressee(self, query: Iterable[tuple[str, str]]) -> tuple[OAuthApp, str]:
        """The application and its redirect URI. Raises OAuthProblem or FormProblem, neither of which may lead to a redirect."""
        named = single(each for each in query if each[0] in {"client_id", "redirect_uri"})
        app = self._consents.app(named.get("client_id", ""))
        if app is None:
            raise OAuthProblem("invalid_request", "The client_id is unknown.")
        redirect_uri = named.get("redirect_uri", "")
        if redirect_uri not in app.redirect_uris:
            raise OAuthProblem("invalid_request", "The redirect_uri is not registered for this application.")
        return app, redirect_uri

    def _way_back(self, request: web.Request, redirect_uri: str) -> _WayBack:
        issuer = str(request.url.origin()) if self._behaviour().sends_issuer else None
        return _WayBack(redirect_uri, request.query.get("state"), issuer)

    def _checked(self, query: Iterable[tuple[str, str]]) -> Challenge | None:
        """The challenge, if there is one. Raises OAuthProblem for anything that is wrong with the rest."""
        try:
            asked = single(query)
        except FormProblem as exc:
            raise OAuthProblem("invalid_request", str(exc)) from exc
        kind = asked.get("response_type")
        if not kind:
            raise OAuthProblem("invalid_request", "response_type is missing.")
        if kind != "code":
            raise OAuthProblem("unsupported_response_type", "Only the code grant is offered.")
        if self._behaviour().ignores_pkce or "code_challenge" not in asked:
            return None
        return challenge(asked["code_challenge"], asked.get("code_challenge_method", ""))

    def _take_decision(self, call: Call, session: Session, user: User, app: OAuthApp) -> None:
        """Note down the consent. Raises OAuthProblem if it was refused, FormProblem for a form that is not ours."""
        form = read_form(call.request.content_type, call.body)
        if not session.owns(form):
            raise FormProblem
        if form.get("decision") != "allow":
            raise OAuthProblem("access_denied", "The user refused.")
        self._consents.give(user, app)

    # The application's side

    async def retrieve(self, call: Call) -> Answer:
        """The user's API token, for the code."""
        try:
            token = self._retrieved(call)
        except FormProblem as exc:
            return _refused(OAuthProblem("invalid_request", str(exc)), call.request)
        except OAuthProblem as problem:
            return _refused(problem, call.request)
        return json_answer({"access_token": token, "token_type": "bearer"}, headers=_PRIVATE)

    def _retrieved(self, call: Call) -> str:
        form = read_form(call.request.content_type, call.body)
        app = self._authenticated(call.request, form)
        kind = _required(form, "grant_type")
        if kind != "authorization_code":
            raise OAuthProblem("unsupported_grant_type", "Only authorization_code is offered.")
        code, redirect_uri = _required(form, "code"), _required(form, "redirect_uri")
        token = self._consents.redeem(app, code, redirect_uri, form.get("code_verifier", ""))
        if call.fault.token_of is not None:
            return self._consents.token_for(self._estate.known_user(call.fault.token_of), app)
        return token

    def _authenticated(self, request: web.Request, form: Mapping[str, str]) -> OAuthApp:
        """The application that asks, with its secret in HTTP Basic or in the form, not in both. Raises OAuthProblem."""
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if "Authorization" in request.headers:
            if secret:
                raise OAuthProblem("invalid_request", "The client authenticates in two ways at once.")
            given = client_id
            client_id, secret = _basic(request.headers["Authorization"])
            if given not in {"", client_id}:
                raise OAuthProblem("invalid_client", "The client_id of the form is another one.")
        app = self._consents.app(client_id)
        if app is None or not hmac.compare_digest(app.client_secret.encode(), secret.encode()):
            raise OAuthProblem("invalid_client", "The client is unknown, or its secret is wrong.")
        return app


def login_first(request: web.Request) -> Answer:
    """To the login page, and back here afterwards."""
    return redirect_answer(f"{LOGIN_PATH}?returnUrl={quote(request.path_qs, safe='')}")


def _basic(header: str) -> tuple[str, str]:
    """The id and the secret of HTTP Basic, which are form-encoded inside (RFC 6749, 2.3.1). Raises OAuthProblem."""
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise OAuthProblem("invalid_client", "The client authenticates by HTTP Basic or in the form.")
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise OAuthProblem("invalid_client", "This is no HTTP Basic.") from exc
    return unquote_plus(client_id), unquote_plus(secret)


def _required(form: Mapping[str, str], name: str) -> str:
    if not form.get(name):
        raise OAuthProblem("invalid_request", f"{name} is missing.")
    return form[name]


def _refused(problem: OAuthProblem, request: web.Request) -> Answer:
    """The error answer of RFC 6749, 5.2."""
    headers = dict(_PRIVATE)
    if problem.error == "invalid_client" and "Authorization" in request.headers:
        headers["WWW-Authenticate"] = 'Basic realm="eSAW"'
    body = {"error": problem.error, "error_description": problem.description}
    return json_answer(body, 401 if problem.error == "invalid_client" else 400, headers=headers)
