"""
The steps of each page; each ends in a page, a redirect or a ``PageError``.

before-send ─▶ eSAW (log in, consent) ─▶ return ─▶ [form ─▶] send ─▶ inbox
               (the form asks for tags, or whether to send if that is not certain)
consent ─────▶ eSAW ────────────────────▶ return ─▶ thanks

Before the pages store or send anything, the return must prove three things: the state is this browser's and
was not used before, the code is valid, and eSAW's ``whoami`` is the user in the link.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from counterfoil.esaw import EsawClient, EsawClients, EsawError, EsawUserClient, drafts
from counterfoil.esaw.oauth import authorize_url
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.resources import Organization, ResourceInvalid, Sender, consented_sender_name
from counterfoil.resources.organization import BeforeSendField, OAuth, Pkce
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.handler import BrowserRequest, check_rate
from webhook.http_server.request_headers import is_from
from webhook.http_server.responses import PageResponse
from webhook.pages import form_fields
from webhook.pages.code_exchange import Consent, ConsentService
from webhook.pages.cookies import FlowCookies, FormSession, OAuthFlow, PageUrls
from webhook.pages.errors import PageErrorKind, from_esaw
from webhook.pages.limits import PageLimits, ReturnRates
from webhook.pages.metadata import DraftMetadataUnreadable, values_in
from webhook.pages.rendering import PageLink, PageRenderer
from webhook.pages.routes import PageRoute, parse_draft_and_user
from webhook.pages.send import DraftSender, SendJob
from webhook.pages.send_lease import SendLeases

_STATE_LOST: Final = (
    "eSAW sent the browser back without the parameter state, so every sign-in fails. eSAW must return it "
    "unchanged (RFC 6749, 4.1.2): ask its operator. Check also that no proxy cuts the redirect URI's query"
)


class OrganizationSite(NamedTuple):
    """An Organization whose pages are in use."""

    organization: Organization
    oauth: OAuth
    urls: PageUrls


@dataclass(kw_only=True)
class RequestContext(BrowserRequest):
    """One request, and the data of its steps that an error page needs to offer a restart."""

    route: PageRoute
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    site: OrganizationSite | None = None
    namespace: str | None = None
    """The namespace of the page, once it is clear that the Organization exists there."""
    restart_url: str = ""
    """Address at which the person can start again."""
    is_consent: bool = False
    """Whether only a consent is given: then no draft is sent, and error pages speak of none."""
    expired_cookies: tuple[str, ...] = ()
    """Cookies to delete, also after an error."""


@dataclass(frozen=True, kw_only=True)
class PageViews:
    """Makes the answers of the pages of one namespace. Every method raises ``PageError`` or ``ApiError``
    instead."""

    kube: KubeClient
    own_namespace: str
    """The release's own namespace: elsewhere the addresses name the namespace."""
    flow_cookies: FlowCookies
    send_leases: SendLeases
    consent_service: ConsentService
    draft_sender: DraftSender
    esaw_clients: EsawClients
    renderer: PageRenderer
    limits: PageLimits
    returns: ReturnRates
    monotonic: Callable[[], float]

    async def site(self, name: str) -> OrganizationSite:
        """Return the Organization of that name, if it has pages."""
        try:
            organization = Organization.parse(await self.kube.get(Organization, name))
        except NotFound:
            raise PageError(HttpErrorKind.NOT_FOUND, "no such organization") from None
        except ResourceInvalid as mismatch:
            raise PageError(PageErrorKind.NOT_CONFIGURED, str(mismatch)) from None
        oauth = organization.spec.oauth
        if oauth is None or oauth.public_url is None:
            detail = f"Organization/{name} has no spec.oauth with a publicURL"
            raise PageError(PageErrorKind.NOT_CONFIGURED, detail)
        organization = organization.with_address(namespace=self.kube.namespace, own=self.own_namespace)
        return OrganizationSite(organization, oauth, PageUrls(organization, oauth.public_url))

    # -- Redirect to eSAW ---------------------------------------------------------------------------------

    async def before_send(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """Somebody pressed Send in eSAW: go through eSAW to learn who it is, and for the key."""
        draft, user_id = parse_draft_and_user(context.query)
        organization = site.organization.name
        context.restart_url = site.urls.before_send(draft, user_id)
        sender = consented_sender_name(organization, user_id)
        is_own_click = is_from(site.urls.esaw, context.headers)
        flow = self.flow_cookies.begin(organization, user_id, sender, draft, is_own_click=is_own_click)
        return await self._redirect_to_esaw(site, flow)

    async def consent(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """Somebody follows the link in a mail: go through eSAW for a new key."""
        name = context.route.sender
        sender = await self.consent_service.find_sender(site.organization, name)
        if sender is None:
            raise PageError(HttpErrorKind.NOT_FOUND, "no such Sender of this organization")
        if sender.spec.token_secret_ref is not None:
            raise PageError(PageErrorKind.BRINGS_KEY, f"Sender/{name} has a spec.tokenSecretRef")
        context.restart_url, context.is_consent = site.urls.consent(name), True
        flow = self.flow_cookies.begin(site.organization.name, sender.spec.user_id, sender.name, None)
        return await self._redirect_to_esaw(site, flow)

    async def _redirect_to_esaw(self, site: OrganizationSite, flow: OAuthFlow) -> PageResponse:
        await self.consent_service.confirm_origin(site.organization, site.oauth)
        location = authorize_url(
            site.organization.spec.base_url,
            site.oauth.authorize_path,
            client_id=site.oauth.client_id,
            redirect_uri=site.urls.redirect_uri,
            state=flow.state,
            verifier=flow.verifier if site.oauth.pkce is Pkce.S256 else None,
        )
        value, seconds = self.flow_cookies.seal(flow), self.limits.flow_seconds
        cookie = site.urls.set_cookie(flow, value, seconds=seconds)
        return PageResponse(location=location, cookies=(cookie,))

    # -- Back from eSAW -------------------------------------------------------------------------------------

    async def oauth_return(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """ESAW sent the browser back, with a code if all went well."""
        state, cookies = context.query.get("state", ""), site.urls.own_cookies(context.cookies)
        if not state and self.flow_cookies.has_flow(cookies, site.organization.name):
            raise PageError(PageErrorKind.STATE_NOT_RETURNED, _STATE_LOST)
        flow = self.flow_cookies.read_flow(cookies, site.organization.name, state) if state else None
        if flow is None:
            raise PageError(PageErrorKind.STATE_MISSING, "no such state in this browser, or too old")
        context.restart_url, context.is_consent = site.urls.restart_url(flow), flow.draft is None
        context.expired_cookies = (site.urls.set_cookie(flow, "", seconds=0),)
        code = authorization_code(site, context.query)
        # Before the Lease and the call to eSAW, since anybody can begin a flow and come back with any code.
        owner = f"{self.kube.namespace}/{site.organization.name}"
        check_rate(self.returns.take(owner, context.client, self.monotonic()), "returns from eSAW")
        esaw = self.esaw_clients.for_organization(site.organization)
        try:
            consent = await self._use_code(site, esaw, flow, code)
        except (PageError, ApiError) as error:
            if isinstance(error, ApiError) or error.kind is PageErrorKind.ESAW_DOWN:
                self.returns.forgive(owner, context.client)
            raise
        # The code was eSAW's: people who sign in take nothing of an address's rate, however many share it.
        self.returns.forgive(owner, context.client)
        sender = await self.consent_service.store(site.organization, consent, flow.sender)
        if flow.draft is None:
            receipt = self.flow_cookies.receipt(flow)
            value, seconds = self.flow_cookies.seal(receipt), self.limits.flow_seconds
            cookie = site.urls.set_cookie(receipt, value, seconds=seconds)
            return PageResponse(location=site.urls.thanks(flow.sender), cookies=(cookie,))
        if _fields(site) or not flow.is_own_click:
            session = self.flow_cookies.begin_form(flow, flow.draft)
            value, seconds = self.flow_cookies.seal(session), self.limits.form_seconds
            cookie = site.urls.set_cookie(session, value, seconds=seconds)
            return PageResponse(location=site.urls.form(flow.draft, flow.user_id), cookies=(cookie,))
        user = esaw.as_user(consent.token)
        await self.draft_sender.send(SendJob(site.organization, sender, user, flow.draft))
        return PageResponse(location=site.urls.inbox)

    async def _use_code(
        self, site: OrganizationSite, esaw: EsawClient, flow: OAuthFlow, code: str
    ) -> Consent:
        if not await self.send_leases.use_state(flow.state):
            raise PageError(PageErrorKind.STATE_USED, "the state was used before")
        return await self.consent_service.obtain(
            esaw, site.organization, site.oauth, flow, code=code, redirect_uri=site.urls.redirect_uri
        )

    async def thanks(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """Tell the browser in which the key was renewed just now; any other learns nothing."""
        links = [PageLink("to_inbox", site.urls.inbox)]
        cookies = site.urls.own_cookies(context.cookies)
        is_given = self.flow_cookies.has_receipt(cookies, site.organization.name, context.route.sender)
        section = "consent_given" if is_given else "consent_unknown"
        html = self.renderer.message(context.words, section, links=links, is_trouble=False)
        return PageResponse(html=html)

    # -- The form -------------------------------------------------------------------------------------------

    async def show_form(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """Show the form; redirect to the inbox if the draft is sent, and to eSAW if there is no session."""
        session = self._form_session(site, context)
        if session is None:
            return PageResponse(location=context.restart_url)
        if await self._was_sent(session):
            return PageResponse(location=site.urls.inbox)
        _, user = await self._sender_and_user(site, session)
        requested = _fields(site)
        try:
            name = (await drafts.get_draft(user, session.draft)).name
            known = await self._existing_values(user, session.draft, requested)
        except EsawError as problem:
            raise from_esaw(problem) from problem
        return self._form_page(site, context, session, form_fields.empty_fields(requested, known), name)

    async def _existing_values(
        self, user: EsawUserClient, draft: str, requested: tuple[BeforeSendField, ...]
    ) -> Mapping[str, str]:
        if not requested:
            return {}
        metadata = (await drafts.configuration(user, draft)).metadata
        try:
            names = tuple(each.name for each in requested)
            # In a thread: a megabyte takes a tenth of a second, most of it outside of Python.
            return await asyncio.to_thread(values_in, metadata, names, limit=self.limits.metadata)
        except DraftMetadataUnreadable as unreadable:
            raise PageError(PageErrorKind.METADATA_UNREADABLE, str(unreadable)) from None

    async def submit_form(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """Take the form, with tags if they are asked for, and send the draft."""
        session = self._form_session(site, context)
        if session is None:
            raise PageError(PageErrorKind.FORM_EXPIRED, "no such form in this browser, or too old")
        if not self.flow_cookies.is_valid_form_token(session, context.form.get("form", "")):
            raise PageError(PageErrorKind.FORM_EXPIRED, "the form carries no token of this browser's")
        # In a thread: 32 patterns can take some 50 ms each.
        fields = await asyncio.to_thread(
            form_fields.filled_fields, _fields(site), context.form, limit=self.limits.value
        )
        if any(each.fault for each in fields):
            if await self._was_sent(session):
                return self._sent_before_page(site, context)
            fields = await self._with_absent_values(site, session, fields)
            return self._form_page(site, context, session, fields, "")
        sender, user = await self._sender_and_user(site, session)
        tags = form_fields.values_of(fields)
        has_tags = await self.draft_sender.send(SendJob(site.organization, sender, user, session.draft, tags))
        return self._sent_page(site, context) if has_tags else self._sent_before_page(site, context)

    async def _with_absent_values(
        self, site: OrganizationSite, session: FormSession, fields: tuple[form_fields.FormField, ...]
    ) -> tuple[form_fields.FormField, ...]:
        """Return the fields to show again, with the draft's values for those that the form did not have."""
        if not any(each.is_absent for each in fields):
            return fields
        _, user = await self._sender_and_user(site, session)
        try:
            known = await self._existing_values(user, session.draft, _fields(site))
        except EsawError as problem:
            raise from_esaw(problem) from problem
        return form_fields.with_known_values(fields, known)

    def _form_session(self, site: OrganizationSite, context: RequestContext) -> FormSession | None:
        draft, user_id = parse_draft_and_user(context.query)
        context.restart_url = site.urls.before_send(draft, user_id)
        cookies = site.urls.own_cookies(context.cookies)
        return self.flow_cookies.read_form_session(cookies, site.organization.name, draft, user_id)

    async def _was_sent(self, session: FormSession) -> bool:
        return await self.draft_sender.was_sent(session.organization, session.sender, session.draft)

    def _form_page(
        self,
        site: OrganizationSite,
        context: RequestContext,
        session: FormSession,
        fields: tuple[form_fields.FormField, ...],
        name: str,
    ) -> PageResponse:
        has_faults = any(each.fault for each in fields)
        html = self.renderer.form(
            context.words,
            action=site.urls.form(session.draft, session.user_id),
            token=self.flow_cookies.form_token(session),
            organization=site.organization.name,
            inbox=site.urls.inbox,
            fields=fields,
            name=name,
            has_faults=has_faults,
            value_limit=self.limits.value,
        )
        status = HTTPStatus.UNPROCESSABLE_ENTITY if has_faults else HTTPStatus.OK
        return PageResponse(html=html, status=status, form_target=site.urls.origin)

    async def _sender_and_user(
        self, site: OrganizationSite, session: FormSession
    ) -> tuple[Sender, EsawUserClient]:
        """Return the user of a form. Without a key, redirect to eSAW's OAuth again, which brings one."""
        sender = await self.consent_service.find_sender(site.organization, session.sender)
        esaw = self.esaw_clients.for_organization(site.organization)
        key = await self.consent_service.get_token(sender, esaw) if sender is not None else None
        if sender is None or key is None:
            raise PageError(PageErrorKind.FORM_EXPIRED, "the sender's key is gone, or of another eSAW")
        return sender, esaw.as_user(key)

    def _sent_page(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """
        Lead to the inbox after a form with a page, not with a redirect.

        Browsers hold every redirect after a form against its page's policy, and an inbox may lie behind a
        login of which nobody knows over how many hosts it leads. A redirect that a page makes automatically
        is no form any more. (CSP 3, form-action)
        """
        inbox = site.urls.inbox
        html = self.renderer.message(
            context.words, "sent", links=[PageLink("to_inbox", inbox)], is_trouble=False, onward=inbox
        )
        return PageResponse(html=html)

    def _sent_before_page(self, site: OrganizationSite, context: RequestContext) -> PageResponse:
        """Say that another attempt may have sent the draft with other tags. The person must be able to read
        it, so the browser stays here."""
        links = [PageLink("to_inbox", site.urls.inbox)]
        html = self.renderer.message(context.words, "sent_before", links=links, is_trouble=False)
        return PageResponse(html=html)


def _fields(site: OrganizationSite) -> tuple[BeforeSendField, ...]:
    before_send = site.organization.spec.before_send
    return before_send.fields if before_send is not None else ()


def authorization_code(site: OrganizationSite, query: Mapping[str, str]) -> str:
    """Return the code that eSAW sent. Raises ``PageError`` for anything else that came back."""
    issuer = query.get("iss")
    if issuer is not None and not _is_issued_by(issuer, site.organization.spec.base_url):
        raise PageError(PageErrorKind.WRONG_ISSUER, "iss names another server than spec.baseURL")
    if query.get("error") == "access_denied":
        raise PageError(PageErrorKind.DENIED, "the user did not consent")
    if query.get("error") == "invalid_request" and site.oauth.pkce is Pkce.S256:
        detail = "eSAW came back with invalid_request; if it does not know PKCE, set spec.oauth.pkce to Off"
        raise PageError(PageErrorKind.LOGIN_FAILED, detail)
    if "error" in query:
        raise PageError(PageErrorKind.LOGIN_FAILED, "eSAW came back with an error instead of a code")
    code = query.get("code", "")
    if not code:
        raise PageError(PageErrorKind.LOGIN_FAILED, "eSAW came back without a code")
    return code


def _is_issued_by(issuer: str, base_url: str) -> bool:
    """Whether an issuer is the organization's eSAW. (RFC 9207, 2.4)"""
    # Namirial does not document the issuer: the host of eSAW alone, or with the path of its installation.
    base = urlsplit(base_url)
    return issuer.rstrip("/") in {base_url.rstrip("/"), f"{base.scheme}://{base.netloc}"}
