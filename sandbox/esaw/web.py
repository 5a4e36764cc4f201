"""
The web side: what a person at a browser sees of eSAW, from the login to the inbox, and where OAuth's endpoints stand.

A draft is made, summed up, and sent; where a page of somebody else's comes before the sending, the browser is taken there
with the draft's id instead, and nothing is sent here (Namirial, "Custom Page before Sending").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from sandbox.esaw import pages
from sandbox.esaw.answer import Answer, html_answer, redirect_answer
from sandbox.esaw.callbacks import expand
from sandbox.esaw.documents import plain_pdf
from sandbox.esaw.errors import EsawError, Refusal, UnknownPath
from sandbox.esaw.estate import Estate
from sandbox.esaw.forms import FormProblem, read_form
from sandbox.esaw.gate import Call, Door, Handler
from sandbox.esaw.model import Recipient, Upload, User
from sandbox.esaw.oauth import LOGIN_PATH, OAuth, login_first
from sandbox.esaw.rest import MAX_UPLOAD
from sandbox.esaw.sending import Sending
from sandbox.esaw.sessions import Session, Sessions, cookie_of, no_cookie

INBOX: Final = "/Documents"


@dataclass(frozen=True, slots=True)
class _Visit:
    """Somebody signed in asks for a page, or sends its form."""

    call: Call
    session: Session
    user: User
    form: Mapping[str, str] = field(default_factory=dict)
    file: tuple[str, bytes] | None = None
    """The file in the form, with its name."""


_Page = Callable[[_Visit], Answer]


class Site:
    """The pages over one estate, with OAuth's."""

    def __init__(self, estate: Estate, sessions: Sessions, sending: Sending, oauth: OAuth) -> None:
        self._estate = estate
        self._sessions = sessions
        self._sending = sending
        self._oauth = oauth
        self._fixed: Mapping[str, tuple[str, dict[str, Handler]]] = {
            "/auth/authorize": ("authorize", {"GET": oauth.authorize, "POST": oauth.authorize}),
            "/apitoken/retrieve": ("retrieve", {"POST": oauth.retrieve}),
            LOGIN_PATH.lower(): ("login", {"GET": self._login_form, "POST": self._login}),
            "/auth/logout": ("logout", {"POST": self._logout}),
            "/": ("inbox", {"GET": _to_inbox}),
            INBOX.lower(): ("inbox", {"GET": self._signed_in(self._inbox)}),
            "/drafts/new": (
                "draft_form",
                {"GET": self._signed_in(self._draft_form), "POST": self._signed_in(self._create_draft)},
            ),
        }
        self._draft_page: dict[str, Handler] = {
            "GET": self._signed_in(self._summary),
            "POST": self._signed_in(self._go_on),
        }

    async def door(self, request: web.Request) -> Door:
        """The door for this request; unknown paths and wrong methods have doors too, which refuse."""
        path = request.path.lower().rstrip("/") or "/"
        visitor = self._sessions.user_of(request)
        about = ""
        if path in self._fixed:
            operation, handlers = self._fixed[path]
            if operation in {"authorize", "retrieve"}:
                about = self._oauth.client_of(request, await request.read())
        elif path.startswith("/drafts/") and path.count("/") == 2:
            operation, handlers = "draft_page", self._draft_page
            about = unquote(path.rpartition("/")[2])
        else:
            return Door("unknown", "", _not_found, visitor)
        handler = handlers.get(request.method)
        if handler is None:
            return Door(operation, about, _wrong_method(", ".join(handlers)), visitor)
        return Door(operation, about, _in_words(handler), visitor)

    def _signed_in(self, page: _Page) -> Handler:
        """A page for those who are signed in; others go to the login first."""

        async def show(call: Call) -> Answer:
            session = self._sessions.of(call.request)
            if session is None or session.user is None:
                return login_first(call.request)
            if call.request.method == "GET":
                return page(_Visit(call, session, session.user))
            form, file = await _sent(call)
            if not session.owns(form):
                raise FormProblem
            return page(_Visit(call, session, session.user, form, file))

        return show

    # In and out

    async def _login_form(self, call: Call) -> Answer:
        return_url = _local(call.request.query.get("returnUrl", INBOX))
        session = self._sessions.of(call.request) or self._sessions.begin()
        if session.user is not None:
            return redirect_answer(return_url)
        return html_answer(pages.login(session, return_url), headers=cookie_of(session))

    async def _login(self, call: Call) -> Answer:
        form, _ = await _sent(call)
        return_url = _local(form.get("returnUrl", INBOX))
        session = self._sessions.of(call.request)
        if session is None or not session.owns(form):
            raise FormProblem
        email = form.get("email", "")
        user = self._estate.user_with(email, form.get("password", ""))
        if user is None:
            problem = "The e-mail address or the password is wrong."
            return html_answer(pages.login(session, return_url, email, problem), 400)
        self._sessions.end(session)
        return redirect_answer(return_url, cookie_of(self._sessions.begin(user)))

    async def _logout(self, call: Call) -> Answer:
        form, _ = await _sent(call)
        session = self._sessions.of(call.request)
        if session is None or not session.owns(form):
            raise FormProblem
        self._sessions.end(session)
        return redirect_answer(LOGIN_PATH, no_cookie())

    # Documents and drafts

    def _inbox(self, visit: _Visit) -> Answer:
        drafts = self._estate.drafts_of(visit.user)
        envelopes = self._estate.visible_envelopes(visit.user)
        return html_answer(pages.inbox(visit.session, reversed(drafts), reversed(list(envelopes))))

    def _draft_form(self, visit: _Visit) -> Answer:
        asks_metadata = self._estate.before_send_url is None
        return html_answer(pages.new_draft(visit.session, asks_metadata=asks_metadata))

    def _create_draft(self, visit: _Visit) -> Answer:
        form = visit.form
        recipient = Recipient(
            email=form.get("email", ""),
            given_name=form.get("given_name", ""),
            surname=form.get("surname", ""),
        )
        name = form.get("name", "").strip()
        if not name or not recipient.email:
            asks_metadata = self._estate.before_send_url is None
            problem = "A draft has a name and a recipient."
            page = pages.new_draft(visit.session, asks_metadata=asks_metadata, problem=problem)
            return html_answer(page, 400)
        file_name, data = visit.file or ("sample.pdf", plain_pdf("Sample", 1))
        if not data or len(data) > MAX_UPLOAD:
            raise EsawError(Refusal.FILE_TOO_LARGE if data else Refusal.EMPTY_FILE)
        upload = Upload(self._estate.new_id(), visit.user, file_name, data, self._estate.now())
        draft = self._estate.add_draft(
            visit.user,
            name=name,
            uploads=[upload],
            recipients=[recipient],
            metadata=form.get("metadata") or None,
        )
        return redirect_answer(f"/Drafts/{draft.id}")

    def _summary(self, visit: _Visit) -> Answer:
        return html_answer(
            pages.summary(visit.session, self._estate.visible_draft(visit.call.id, visit.user))
        )

    def _go_on(self, visit: _Visit) -> Answer:
        """NEXT, or SEND where nothing comes before that."""
        draft = self._estate.visible_draft(visit.call.id, visit.user)
        if draft.before_send_url is None:
            self._sending.send(draft)
            return redirect_answer(INBOX)
        values = {
            "EnvelopeId": draft.id,
            "SenderUserId": visit.user.user_id,
            "OrganizationId": self._estate.organization_id,
        }
        return redirect_answer(expand(draft.before_send_url, values))


async def _sent(call: Call) -> tuple[dict[str, str], tuple[str, bytes] | None]:
    """The fields of a form, and the file in it if one was chosen. Raises FormProblem."""
    if not call.request.content_type.startswith("multipart/"):
        return read_form(call.request.content_type, call.body), None
    try:
        sent = await call.request.post()
    except ValueError as exc:
        raise FormProblem("The body is no form.") from exc
    fields = {name: value for name, value in sent.items() if isinstance(value, str)}
    for value in sent.values():
        if isinstance(value, web.FileField) and value.filename:
            return fields, (value.filename, value.file.read())
    return fields, None


def _in_words(handler: Handler) -> Handler:
    """The handler, whose refusals are pages for a person."""

    async def show(call: Call) -> Answer:
        try:
            return await handler(call)
        except FormProblem:
            return html_answer(pages.out_of_date(INBOX), 400)
        except EsawError as exc:
            return html_answer(pages.refusal("This is not possible", exc.message), exc.status)

    return show


def _local(url: str) -> str:
    """The URL, if it stays on this server; else the inbox."""
    is_local = url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable()
    return url if is_local else INBOX


async def _to_inbox(call: Call) -> Answer:
    return redirect_answer(INBOX)


async def _not_found(call: Call) -> Answer:
    raise UnknownPath


def _wrong_method(allowed: str) -> Handler:
    async def refuse(call: Call) -> Answer:
        return Answer(status=405, headers={"Allow": allowed})

    return refuse
