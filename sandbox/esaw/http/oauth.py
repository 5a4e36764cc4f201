"""
OAuth: `GET /Auth/Authorize` for browsers, `POST /ApiToken/Retrieve` for the application behind its page (RFC
6749, 4.1).

A browser goes to an application only with a client_id and a redirect_uri that belong together, character for
character; until then every refusal is a page here. What a code is worth, consents decides; who sits at the
browser, sessions knows.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from aiohttp import web

from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.consents import ConsentStore, OAuthError, PkceChallenge, parse_challenge
from sandbox.esaw.core.model import OAuthApp, User
from sandbox.esaw.core.store import EsawStore
from sandbox.esaw.http import pages
from sandbox.esaw.http.forms import InvalidForm, read_form, single_valued
from sandbox.esaw.http.middleware import RoutedCall
from sandbox.esaw.http.responses import RouteResponse, html_response, json_response, redirect_response
from sandbox.esaw.http.sessions import BrowserSession, BrowserSessions

LOGIN_PATH: Final = "/Account/Login"
_PRIVATE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class _ClientRedirect:
    """The redirect back to the application, with its parameters."""

    redirect_uri: str
    state: str | None
    issuer: str | None

    def with_code(self, code: str) -> RouteResponse:
        """The user allowed it."""
        return self._redirect_with({"code": code})

    def with_error(self, problem: OAuthError) -> RouteResponse:
        """The user did not, or the request was wrong."""
        return self._redirect_with({"error": problem.error, "error_description": problem.description})

    def _redirect_with(self, told: Mapping[str, str]) -> RouteResponse:
        more = {"state": self.state, "iss": self.issuer}
        query = urlencode({**told, **{name: value for name, value in more.items() if value}})
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        return redirect_response(f"{self.redirect_uri.removesuffix('?')}{joint}{query}")


class OAuthEndpoints:
    """The two endpoints over one store."""

    def __init__(
        self,
        store: EsawStore,
        consents: ConsentStore,
        sessions: BrowserSessions,
        behaviour: Callable[[], Behaviour],
    ) -> None:
        self._store = store
        self._consents = consents
        self._sessions = sessions
        self._behaviour = behaviour

    # The browser's side

    async def authorize(self, call: RoutedCall) -> RouteResponse:
        """GET: log in, ask for consent where there is none, else back with a code. POST: the answer to the
        question."""
        query = list(call.request.query.items())
        try:
            app, redirect_uri = self._client_and_redirect_uri(query)
        except (OAuthError, InvalidForm) as problem:
            description = problem.description if isinstance(problem, OAuthError) else str(problem)
            return html_response(pages.refusal("This request cannot be trusted", description), 400)
        back = self._client_redirect(call.request, redirect_uri)
        try:
            code_challenge = self._valid_challenge(query)
        except OAuthError as problem:
            return back.with_error(problem)

        session = self._sessions.of(call.request)
        if session is None or session.user is None:
            return redirect_to_login(call.request)
        if call.request.method == "POST":
            try:
                self._record_decision(call, session, session.user, app)
            except OAuthError as problem:
                return back.with_error(problem)
            except InvalidForm:
                return html_response(pages.form_expired(call.request.path_qs), 400)
        elif not self._consents.has_granted(session.user, app):
            page = pages.consent(
                session, session.user, app, urlsplit(redirect_uri).netloc, call.request.path_qs
            )
            return html_response(page)
        return back.with_code(self._consents.new_code(session.user, app, redirect_uri, code_challenge))

    def client_id_of(self, request: web.Request, body: bytes) -> str:
        """The application that a request names, truly or not; empty if there is no such one, or none is
        named."""
        client_id = request.query.get("client_id", "")
        if not client_id:
            try:
                form = read_form(request.content_type, body)
                basic = request.headers.get("Authorization")
                client_id = _basic(basic)[0] if basic else form.get("client_id", "")
            except (OAuthError, InvalidForm):
                return ""
        return client_id if self._consents.app(client_id) else ""

    def _client_and_redirect_uri(self, query: Iterable[tuple[str, str]]) -> tuple[OAuthApp, str]:
        """The application and its redirect URI. Raises OAuthProblem or FormProblem, neither of which may lead
        to a redirect."""
        named = single_valued(each for each in query if each[0] in {"client_id", "redirect_uri"})
        app = self._consents.app(named.get("client_id", ""))
        if app is None:
            raise OAuthError("invalid_request", "The client_id is unknown.")
        redirect_uri = named.get("redirect_uri", "")
        if redirect_uri not in app.redirect_uris:
            raise OAuthError("invalid_request", "The redirect_uri is not registered for this application.")
        return app, redirect_uri

    def _client_redirect(self, request: web.Request, redirect_uri: str) -> _ClientRedirect:
        issuer = str(request.url.origin()) if self._behaviour().sends_issuer else None
        state = request.query.get("state") if self._behaviour().returns_state else None
        return _ClientRedirect(redirect_uri, state, issuer)

    def _valid_challenge(self, query: Iterable[tuple[str, str]]) -> PkceChallenge | None:
        """The challenge, if there is one. Raises OAuthProblem for anything that is wrong with the rest."""
        try:
            asked = single_valued(query)
        except InvalidForm as exc:
            raise OAuthError("invalid_request", str(exc)) from exc
        kind = asked.get("response_type")
        if not kind:
            raise OAuthError("invalid_request", "response_type is missing.")
        if kind != "code":
            raise OAuthError("unsupported_response_type", "Only the code grant is offered.")
        if self._behaviour().refuses_pkce and asked.keys() & {"code_challenge", "code_challenge_method"}:
            raise OAuthError("invalid_request", "code_challenge is unknown.")
        if self._behaviour().ignores_pkce or "code_challenge" not in asked:
            return None
        return parse_challenge(asked["code_challenge"], asked.get("code_challenge_method", ""))

    def _record_decision(self, call: RoutedCall, session: BrowserSession, user: User, app: OAuthApp) -> None:
        """Record the consent. Raises OAuthProblem if it was refused, FormProblem for a form that is not
        ours."""
        form = read_form(call.request.content_type, call.body)
        if not session.accepts_form(form):
            raise InvalidForm
        if form.get("decision") != "allow":
            raise OAuthError("access_denied", "The user refused.")
        self._consents.grant(user, app)

    # The application's side

    async def retrieve(self, call: RoutedCall) -> RouteResponse:
        """The user's API token, for the code."""
        try:
            token = self._exchange_code(call)
        except InvalidForm as exc:
            return _token_error(OAuthError("invalid_request", str(exc)), call.request)
        except OAuthError as problem:
            return _token_error(problem, call.request)
        return json_response({"access_token": token, "token_type": "bearer"}, headers=_PRIVATE)

    def _exchange_code(self, call: RoutedCall) -> str:
        form = read_form(call.request.content_type, call.body)
        app = self._authenticated_client(call.request, form)
        if self._behaviour().refuses_pkce and "code_verifier" in form:
            raise OAuthError("invalid_request", "code_verifier is unknown.")
        kind = _required(form, "grant_type")
        if kind != "authorization_code":
            raise OAuthError("unsupported_grant_type", "Only authorization_code is offered.")
        code, redirect_uri = _required(form, "code"), _required(form, "redirect_uri")
        token = self._consents.redeem(app, code, redirect_uri, form.get("code_verifier", ""))
        if call.fault.token_of is not None:
            return self._consents.token_for(self._store.known_user(call.fault.token_of), app)
        return token

    def _authenticated_client(self, request: web.Request, form: Mapping[str, str]) -> OAuthApp:
        """The application that asks, with its secret in HTTP Basic or in the form, not in both. Raises
        OAuthProblem."""
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        used = "Basic" if "Authorization" in request.headers else "Body"
        if used not in self._behaviour().client_authentications:
            raise OAuthError("invalid_client", f"The client does not authenticate by {used} here.")
        if "Authorization" in request.headers:
            if secret:
                raise OAuthError("invalid_request", "The client authenticates in two ways at once.")
            given = client_id
            client_id, secret = _basic(request.headers["Authorization"])
            if given not in {"", client_id}:
                raise OAuthError("invalid_client", "The client_id of the form is another one.")
        app = self._consents.app(client_id)
        if app is None or not hmac.compare_digest(app.client_secret.encode(), secret.encode()):
            raise OAuthError("invalid_client", "The client is unknown, or its secret is wrong.")
        return app


def redirect_to_login(request: web.Request) -> RouteResponse:
    """To the login page, and back here afterwards."""
    return redirect_response(f"{LOGIN_PATH}?returnUrl={quote(request.path_qs, safe='')}")


def _basic(header: str) -> tuple[str, str]:
    """The id and the secret of HTTP Basic, which are form-encoded inside (RFC 6749, 2.3.1). Raises
    OAuthProblem."""
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise OAuthError("invalid_client", "The client authenticates by HTTP Basic or in the form.")
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise OAuthError("invalid_client", "This is no HTTP Basic.") from exc
    return unquote_plus(client_id), unquote_plus(secret)


def _required(form: Mapping[str, str], name: str) -> str:
    if not form.get(name):
        raise OAuthError("invalid_request", f"{name} is missing.")
    return form[name]


def _token_error(problem: OAuthError, request: web.Request) -> RouteResponse:
    """The error answer of RFC 6749, 5.2."""
    headers = dict(_PRIVATE)
    if problem.error == "invalid_client" and "Authorization" in request.headers:
        headers["WWW-Authenticate"] = 'Basic realm="eSAW"'
    body = {"error": problem.error, "error_description": problem.description}
    return json_response(body, 401 if problem.error == "invalid_client" else 400, headers=headers)
