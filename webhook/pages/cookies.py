"""
State that a browser keeps between two requests in sealed cookies, and the addresses of the pages.

An ``OAuthFlow`` is one way through eSAW and back; its cookie is named after the state, so that two tabs don't
disturb each other, goes only to the page to which eSAW sends the browser back, and lives five minutes. A
``FormSession`` is one form about one draft. Every replica derives the same key for both from the sealing
keys, so a restart or another replica changes nothing. No API token is ever in a cookie.
"""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from itertools import islice
from typing import Final
from urllib.parse import urlencode, urlsplit

from counterfoil.clock import Clock
from counterfoil.esaw.oauth import are_equal, new_secret
from counterfoil.resources import Organization, is_same_user
from counterfoil.sealing import Sealing
from webhook.http_server.cookies import CookieState, FormState, SealedCookies

_FLOW: Final = "flow"
_FLOW_COOKIE: Final = "counterfoil-flow-"
_SESSION: Final = "session"
_RECEIPT: Final = "consent receipt"

MAX_FLOWS: Final = 8
"""Maximum ways through eSAW of a browser that are looked at without a state."""

MAX_COOKIE_CHARACTERS: Final = 4096
"""Of a cookie or a form's token; browsers keep no longer cookies."""


class OAuthFlow(CookieState, frozen=True, kw_only=True):
    """One way through eSAW: for whom, why, and the secrets that bind the way back to this browser."""

    organization: str
    user_id: str
    sender: str
    """Name of the Sender whose key is obtained."""
    draft: str | None
    """The draft to send after the return; None when only the key is renewed."""
    is_own_click: bool = False
    """Whether it is certain that the person wants it sent, so that nothing is asked."""
    state: str
    verifier: str

    @property
    def cookie(self) -> str:
        """The name of its cookie, without a prefix."""
        return flow_cookie(self.state)


class FormSession(FormState, frozen=True, kw_only=True):
    """A form about one draft, for the user who came back from eSAW."""

    organization: str
    user_id: str
    sender: str
    draft: str

    @property
    def cookie(self) -> str:
        """The name of its cookie, without a prefix."""
        return form_cookie(self.draft)


class ConsentReceipt(CookieState, frozen=True, kw_only=True):
    """Proof that a consent was stored, for the page after it: its address alone proves nothing."""

    organization: str
    sender: str

    @property
    def cookie(self) -> str:
        """The name of its cookie, without a prefix."""
        return receipt_cookie(self.organization, self.sender)


def receipt_cookie(organization: str, sender: str) -> str:
    """Return the name of the cookie that proves a consent of this sender."""
    return f"counterfoil-consent-{_short_hash(f'{organization}/{sender}')}"


def flow_cookie(state: str) -> str:
    """Return the name of the cookie of the flow with this state."""
    return f"{_FLOW_COOKIE}{_short_hash(state)}"


def form_cookie(draft: str) -> str:
    """Return the name of the cookie of the form about this draft."""
    return f"counterfoil-form-{_short_hash(draft)}"


_PURPOSES: Final[Mapping[type[CookieState], str]] = {
    OAuthFlow: _FLOW,
    FormSession: _SESSION,
    ConsentReceipt: _RECEIPT,
}


class FlowCookies(SealedCookies):
    """Makes and reads what browsers carry."""

    def __init__(self, sealing: Sealing, clock: Clock, *, flow_seconds: float, form_seconds: float) -> None:
        super().__init__(sealing, clock, form_purpose="form", max_characters=MAX_COOKIE_CHARACTERS)
        self._flow = timedelta(seconds=flow_seconds)
        self._form = timedelta(seconds=form_seconds)

    def begin(
        self, organization: str, user_id: str, sender: str, draft: str | None, *, is_own_click: bool = False
    ) -> OAuthFlow:
        """Begin a way through eSAW."""
        return OAuthFlow(
            organization=organization,
            user_id=user_id,
            sender=sender,
            draft=draft,
            is_own_click=is_own_click,
            state=new_secret(),
            verifier=new_secret(),
            expires=self._clock.now() + self._flow,
        )

    def begin_form(self, flow: OAuthFlow, draft: str) -> FormSession:
        """Begin a form, after the user came back from eSAW."""
        return FormSession(
            organization=flow.organization,
            user_id=flow.user_id,
            sender=flow.sender,
            draft=draft,
            id=new_secret(),
            expires=self._clock.now() + self._form,
        )

    def receipt(self, flow: OAuthFlow) -> ConsentReceipt:
        """Return the proof that the consent of a flow was stored."""
        expires = self._clock.now() + self._flow
        return ConsentReceipt(organization=flow.organization, sender=flow.sender, expires=expires)

    def has_receipt(self, cookies: Mapping[str, str], organization: str, sender: str) -> bool:
        """Whether this browser just gave this consent."""
        value = cookies.get(receipt_cookie(organization, sender), "")
        receipt = self.open_for(_RECEIPT, ConsentReceipt, value)
        return receipt is not None and (receipt.organization, receipt.sender) == (organization, sender)

    def read_flow(self, cookies: Mapping[str, str], organization: str, state: str) -> OAuthFlow | None:
        """Return the flow that this browser began with this state; None for any other state, and when it is
        too late."""
        flow = self.open_for(_FLOW, OAuthFlow, cookies.get(flow_cookie(state), ""))
        if flow is None or not are_equal(flow.state, state) or flow.organization != organization:
            return None
        return flow

    def has_flow(self, cookies: Mapping[str, str], organization: str) -> bool:
        """Whether this browser is on a way through eSAW for this organization."""
        sealed = (value for name, value in cookies.items() if name.startswith(_FLOW_COOKIE))
        flows = (self.open_for(_FLOW, OAuthFlow, value) for value in islice(sealed, MAX_FLOWS))
        return any(flow is not None and flow.organization == organization for flow in flows)

    def read_form_session(
        self, cookies: Mapping[str, str], organization: str, draft: str, user_id: str
    ) -> FormSession | None:
        """Return this browser's form about this draft, if it is still good."""
        session = self.open_for(_SESSION, FormSession, cookies.get(form_cookie(draft), ""))
        if session is None or (session.organization, session.draft) != (organization, draft):
            return None
        return session if is_same_user(session.user_id, user_id) else None

    def seal(self, carried: OAuthFlow | FormSession | ConsentReceipt) -> str:
        """Return the value of its cookie."""
        return self.seal_for(_PURPOSES[type(carried)], carried)


class PageUrls:
    """The addresses of one Organization's pages, as browsers see them. Everything that we redirect to is made
    here."""

    def __init__(self, organization: Organization, public_url: str) -> None:
        self._path = organization.address_path
        self._public_url = public_url.rstrip("/")
        self._before_send = organization.spec.before_send
        self._base_url = organization.spec.base_url

    @property
    def is_https(self) -> bool:
        """Whether browsers come by https."""
        return self._public_url.startswith("https://")

    @property
    def redirect_uri(self) -> str:
        """Redirect URI of OAuth, exactly as registered in eSAW."""
        return f"{self._public_url}/oauth/{self._path}/return"

    @property
    def esaw(self) -> str:
        """Address of eSAW's own pages. The inbox is none of them if it is elsewhere: only who may get every
        Secret says where eSAW is, and more people may say where the inbox is."""
        return self._base_url

    @property
    def inbox(self) -> str:
        """Address of the inbox, the last page."""
        configured = self._before_send.inbox_url if self._before_send is not None else None
        return configured or f"{self._base_url.rstrip('/')}/Inbox/Index"

    def before_send(self, draft: str, user_id: str) -> str:
        """Address at which sending a draft begins."""
        return f"{self._public_url}/before-send/{self._path}?{_draft_query(draft, user_id)}"

    def form(self, draft: str, user_id: str) -> str:
        """The form about a draft."""
        return f"{self._public_url}/before-send/{self._path}/tags?{_draft_query(draft, user_id)}"

    def consent(self, sender: str) -> str:
        """Address at which a key is renewed."""
        return f"{self._public_url}/consent/{self._path}/{sender}"

    def thanks(self, sender: str) -> str:
        """Address of the page after a renewal."""
        return f"{self._public_url}/consent/{self._path}/{sender}/done"

    def restart_url(self, flow: OAuthFlow | FormSession) -> str:
        """Address at which a flow starts again."""
        if flow.draft is None:
            return self.consent(flow.sender)
        return self.before_send(flow.draft, flow.user_id)

    @property
    def origin(self) -> str:
        """Origin that accepts the forms, for the Content-Security-Policy."""
        parts = urlsplit(self._public_url)
        return f"{parts.scheme}://{parts.netloc}"

    def own_cookies(self, cookies: Mapping[str, str]) -> Mapping[str, str]:
        """Return the cookies that these pages can have set, by their names without the prefix."""
        prefix = self._cookie_prefix
        return {
            name.removeprefix(prefix): value for name, value in cookies.items() if name.startswith(prefix)
        }

    @property
    def _cookie_prefix(self) -> str:
        """Prefix by which browsers accept a cookie only over https: a neighbour without TLS below the same
        domain cannot plant one. (RFC 6265bis, 4.1.3.1)"""
        return "__Secure-" if self.is_https else ""

    def set_cookie(
        self, carried: OAuthFlow | FormSession | ConsentReceipt, value: str, *, seconds: float
    ) -> str:
        """Return the Set-Cookie of a flow, a form's session or a receipt; 0 seconds delete the cookie."""
        path = urlsplit(self._place_of(carried)).path
        secure = "; Secure" if self.is_https else ""
        # Lax: it has to come along when eSAW sends the browser back.
        return (
            f"{self._cookie_prefix}{carried.cookie}={value}; Path={path}; Max-Age={int(seconds)}; HttpOnly; "
            f"SameSite=Lax{secure}"
        )

    def _place_of(self, carried: OAuthFlow | FormSession | ConsentReceipt) -> str:
        """Return the one page to which a cookie goes."""
        match carried:
            case OAuthFlow():
                return self.redirect_uri
            case ConsentReceipt():
                return self.thanks(carried.sender)
        return self.form("", "")


def _draft_query(draft: str, user_id: str) -> str:
    return urlencode({"draftId": draft, "userId": user_id})


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
