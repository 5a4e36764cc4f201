"""
The web side: what a person at a browser sees of eSAW, from the login to the inbox, and where OAuth's
endpoints stand.

A draft is made, summed up, and sent; where a page of somebody else's comes before the sending, the browser is
taken there with the draft's id instead, and nothing is sent here (Namirial, "Custom Page before Sending").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from sandbox.esaw.core.callbacks import expand_placeholders
from sandbox.esaw.core.documents import plain_pdf
from sandbox.esaw.core.envelope_sender import EnvelopeSender
from sandbox.esaw.core.errors import ErrorCode, RequestRefused, UnknownPath
from sandbox.esaw.core.model import Recipient, UploadedFile, User
from sandbox.esaw.core.store import EsawStore
from sandbox.esaw.http import pages
from sandbox.esaw.http.forms import InvalidForm, read_form
from sandbox.esaw.http.middleware import Handler, ResolvedRoute, RoutedCall
from sandbox.esaw.http.oauth import LOGIN_PATH, OAuthEndpoints, redirect_to_login
from sandbox.esaw.http.responses import RouteResponse, html_response, redirect_response
from sandbox.esaw.http.rest import MAX_UPLOAD
from sandbox.esaw.http.sessions import BrowserSession, BrowserSessions, expired_cookie, session_cookie

INBOX: Final = "/Inbox/Index"


@dataclass(frozen=True, slots=True)
class _PageRequest:
    """Somebody signed in asks for a page, or sends its form."""

    call: RoutedCall
    session: BrowserSession
    user: User
    form: Mapping[str, str] = field(default_factory=dict)
    file: tuple[str, bytes] | None = None
    """The file in the form, with its name."""


_PageHandler = Callable[[_PageRequest], RouteResponse]


class WebsiteRoutes:
    """The pages over one store, with OAuth's."""

    def __init__(
        self,
        store: EsawStore,
        sessions: BrowserSessions,
        envelope_sender: EnvelopeSender,
        oauth: OAuthEndpoints,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._envelope_sender = envelope_sender
        self._oauth = oauth
        self._fixed: Mapping[str, tuple[str, dict[str, Handler]]] = {
            "/auth/authorize": ("authorize", {"GET": oauth.authorize, "POST": oauth.authorize}),
            "/apitoken/retrieve": ("retrieve", {"POST": oauth.retrieve}),
            LOGIN_PATH.lower(): ("login", {"GET": self._login_form, "POST": self._login}),
            "/auth/logout": ("logout", {"POST": self._logout}),
            "/": ("inbox", {"GET": _to_inbox}),
            INBOX.lower(): ("inbox", {"GET": self._requires_login(self._inbox)}),
            "/drafts/new": (
                "draft_form",
                {
                    "GET": self._requires_login(self._draft_form),
                    "POST": self._requires_login(self._create_draft),
                },
            ),
        }
        self._draft_page: dict[str, Handler] = {
            "GET": self._requires_login(self._summary),
            "POST": self._requires_login(self._continue_draft),
        }

    async def resolve(self, request: web.Request) -> ResolvedRoute:
        """The route for this request; unknown paths and wrong methods have routes too, which refuse."""
        path = request.path.lower().rstrip("/") or "/"
        session_user = self._sessions.user_of(request)
        resource_id = ""
        if path in self._fixed:
            operation, handlers = self._fixed[path]
            if operation in {"authorize", "retrieve"}:
                resource_id = self._oauth.client_id_of(request, await request.read())
        elif path.startswith("/drafts/") and path.count("/") == 2:
            operation, handlers = "draft_page", self._draft_page
            resource_id = unquote(path.rpartition("/")[2])
        else:
            return ResolvedRoute("unknown", "", _not_found, session_user)
        handler = handlers.get(request.method)
        if handler is None:
            return ResolvedRoute(operation, resource_id, _wrong_method(", ".join(handlers)), session_user)
        return ResolvedRoute(operation, resource_id, _errors_as_pages(handler), session_user)

    def _requires_login(self, page: _PageHandler) -> Handler:
        """A page for those who are signed in; others go to the login first."""

        async def show(call: RoutedCall) -> RouteResponse:
            session = self._sessions.of(call.request)
            if session is None or session.user is None:
                return redirect_to_login(call.request)
            if call.request.method == "GET":
                return page(_PageRequest(call, session, session.user))
            form, file = await _fields_and_file(call)
            if not session.accepts_form(form):
                raise InvalidForm
            return page(_PageRequest(call, session, session.user, form, file))

        return show

    # In and out

    async def _login_form(self, call: RoutedCall) -> RouteResponse:
        return_url = _local_url(call.request.query.get("returnUrl", INBOX))
        session = self._sessions.of(call.request) or self._sessions.begin()
        if session.user is not None:
            return redirect_response(return_url)
        return html_response(pages.login(session, return_url), headers=session_cookie(session))

    async def _login(self, call: RoutedCall) -> RouteResponse:
        form, _ = await _fields_and_file(call)
        return_url = _local_url(form.get("returnUrl", INBOX))
        session = self._sessions.of(call.request)
        if session is None or not session.accepts_form(form):
            raise InvalidForm
        email = form.get("email", "")
        user = self._store.authenticate(email, form.get("password", ""))
        if user is None:
            problem = "The e-mail address or the password is wrong."
            return html_response(pages.login(session, return_url, email, problem), 400)
        self._sessions.end(session)
        return redirect_response(return_url, session_cookie(self._sessions.begin(user)))

    async def _logout(self, call: RoutedCall) -> RouteResponse:
        form, _ = await _fields_and_file(call)
        session = self._sessions.of(call.request)
        if session is None or not session.accepts_form(form):
            raise InvalidForm
        self._sessions.end(session)
        return redirect_response(LOGIN_PATH, expired_cookie())

    # Documents and drafts

    def _inbox(self, page_request: _PageRequest) -> RouteResponse:
        drafts = self._store.drafts_of(page_request.user)
        envelopes = self._store.visible_envelopes(page_request.user)
        return html_response(pages.inbox(page_request.session, reversed(drafts), reversed(list(envelopes))))

    def _draft_form(self, page_request: _PageRequest) -> RouteResponse:
        asks_metadata = self._store.before_send_url is None
        return html_response(pages.new_draft(page_request.session, asks_metadata=asks_metadata))

    def _create_draft(self, page_request: _PageRequest) -> RouteResponse:
        form = page_request.form
        recipient = Recipient(
            email=form.get("email", ""),
            given_name=form.get("given_name", ""),
            surname=form.get("surname", ""),
        )
        name = form.get("name", "").strip()
        if not name or not recipient.email:
            asks_metadata = self._store.before_send_url is None
            problem = "A draft has a name and a recipient."
            page = pages.new_draft(page_request.session, asks_metadata=asks_metadata, problem=problem)
            return html_response(page, 400)
        file_name, data = page_request.file or ("sample.pdf", plain_pdf("Sample", 1))
        if not data or len(data) > MAX_UPLOAD:
            raise RequestRefused(ErrorCode.FILE_TOO_LARGE if data else ErrorCode.EMPTY_FILE)
        upload = UploadedFile(self._store.new_id(), page_request.user, file_name, data, self._store.now())
        draft = self._store.add_draft(
            page_request.user,
            name=name,
            uploads=[upload],
            recipients=[recipient],
            metadata=form.get("metadata") or None,
        )
        return redirect_response(f"/Drafts/{draft.id}")

    def _summary(self, page_request: _PageRequest) -> RouteResponse:
        return html_response(
            pages.summary(
                page_request.session, self._store.visible_draft(page_request.call.id, page_request.user)
            )
        )

    def _continue_draft(self, page_request: _PageRequest) -> RouteResponse:
        """NEXT, or SEND where nothing comes before that."""
        draft = self._store.visible_draft(page_request.call.id, page_request.user)
        if draft.before_send_url is None:
            self._envelope_sender.send(draft)
            return redirect_response(INBOX)
        values = {
            "EnvelopeId": draft.id,
            "SenderUserId": page_request.user.user_id,
            "OrganizationId": self._store.organization_id,
        }
        return redirect_response(expand_placeholders(draft.before_send_url, values))


async def _fields_and_file(call: RoutedCall) -> tuple[dict[str, str], tuple[str, bytes] | None]:
    """The fields of a form, and the file in it if one was chosen. Raises FormProblem."""
    if not call.request.content_type.startswith("multipart/"):
        return read_form(call.request.content_type, call.body), None
    try:
        sent = await call.request.post()
    except ValueError as exc:
        raise InvalidForm("The body is no form.") from exc
    fields = {name: value for name, value in sent.items() if isinstance(value, str)}
    for value in sent.values():
        if isinstance(value, web.FileField) and value.filename:
            return fields, (value.filename, value.file.read())
    return fields, None


def _errors_as_pages(handler: Handler) -> Handler:
    """The handler, whose refusals are pages for a person."""

    async def show(call: RoutedCall) -> RouteResponse:
        try:
            return await handler(call)
        except InvalidForm:
            return html_response(pages.form_expired(INBOX), 400)
        except RequestRefused as exc:
            return html_response(pages.refusal("This is not possible", exc.message), exc.status)

    return show


def _local_url(url: str) -> str:
    """The URL, if it stays on this server; else the inbox."""
    is_local = url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable()
    return url if is_local else INBOX


async def _to_inbox(call: RoutedCall) -> RouteResponse:
    return redirect_response(INBOX)


async def _not_found(call: RoutedCall) -> RouteResponse:
    raise UnknownPath


def _wrong_method(allowed: str) -> Handler:
    async def refuse(call: RoutedCall) -> RouteResponse:
        return RouteResponse(status=405, headers={"Allow": allowed})

    return refuse
