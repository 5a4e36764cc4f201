"""
The desk: what happens on each page, from top to bottom, each ending in another page or in a ``Trouble``.

before-send ─▶ eSAW (log in, consent) ─▶ return ─▶ [form ─▶] send ─▶ inbox
               (the form asks for tags, or whether to send if that is not certain)
consent ─────▶ eSAW ────────────────────▶ return ─▶ thanks

Nothing is stored and nothing sent before the return has proved three things: the state is this browser's and was not used
before, the code is good, and eSAW's ``whoami`` is the user that the link was made for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from counterfoil.cluster import Cluster, NotFound
from counterfoil.esaw import ApiToken, EsawProblem, Esaws, EsawUser, drafts
from counterfoil.esaw.oauth import authorize_url
from counterfoil.resources import Organization, ResourceInvalid, Sender, consented_sender_name
from counterfoil.resources.organization import BeforeSendField, OAuth
from webhook.pages import clicks, tagging
from webhook.pages.consents import Consents
from webhook.pages.flows import Flow, Flows, Places, Session
from webhook.pages.languages import Words
from webhook.pages.limits import PageLimits
from webhook.pages.metadata import MetadataUnreadable, values_in
from webhook.pages.notes import Notes
from webhook.pages.problems import Kind, Trouble, of_esaw
from webhook.pages.rendering import Link, Renderer
from webhook.pages.requests import draft_and_user
from webhook.pages.sending import Job, Sending


class Site(NamedTuple):
    """An Organization whose pages are in use."""

    organization: Organization
    oauth: OAuth
    places: Places


class Reply(NamedTuple):
    """What the browser gets: a page or a way on, and cookies."""

    html: str = ""
    location: str = ""
    cookies: tuple[str, ...] = ()
    status: HTTPStatus = HTTPStatus.OK
    has_form: bool = False


@dataclass
class Visit:
    """One request, and what turned out on the way: enough to offer beginning again whatever happens."""

    words: Words
    query: Mapping[str, str]
    cookies: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    site: Site | None = None
    again: str = ""
    """Where this begins anew."""
    drops: tuple[str, ...] = ()
    """Cookies that are no longer needed, whatever the outcome."""


class Desk:
    """Does what the pages are for. Every method raises ``Trouble`` or ``ApiProblem`` instead of an answer."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        flows: Flows,
        notes: Notes,
        consents: Consents,
        sending: Sending,
        esaws: Esaws,
        renderer: Renderer,
        limits: PageLimits,
    ) -> None:
        self._cluster = cluster
        self._flows = flows
        self._notes = notes
        self._consents = consents
        self._sending = sending
        self._esaws = esaws
        self._renderer = renderer
        self._limits = limits

    async def site(self, name: str) -> Site:
        """Return the Organization of that name, if it has pages."""
        try:
            organization = Organization.parse(await self._cluster.get(Organization, name))
        except NotFound:
            raise Trouble(Kind.NOT_FOUND, "no such organization") from None
        except ResourceInvalid as mismatch:
            raise Trouble(Kind.NOT_CONFIGURED, str(mismatch)) from None
        oauth = organization.spec.oauth
        if oauth is None or oauth.public_url is None:
            raise Trouble(Kind.NOT_CONFIGURED, f"Organization/{name} has no spec.oauth with a publicURL")
        return Site(organization, oauth, Places(organization, oauth.public_url))

    # -- On the way to eSAW ---------------------------------------------------------------------------------

    async def before_send(self, site: Site, visit: Visit) -> Reply:
        """Somebody pressed Send in eSAW: go through eSAW to learn who it is, and for the key."""
        draft, user_id = draft_and_user(visit.query)
        organization = site.organization.name
        visit.again = site.places.before_send(draft, user_id)
        sender = consented_sender_name(organization, user_id)
        is_own_click = clicks.is_from(site.places.esaw, visit.headers)
        flow = self._flows.begin(organization, user_id, sender, draft, is_own_click=is_own_click)
        return self._to_esaw(site, flow)

    async def consent(self, site: Site, visit: Visit, sender_name: str) -> Reply:
        """Somebody follows the link in a mail: go through eSAW for a new key."""
        sender = await self._known_sender(site, sender_name)
        visit.again = site.places.consent(sender_name)
        flow = self._flows.begin(site.organization.name, sender.spec.user_id, sender.name, None)
        return self._to_esaw(site, flow)

    def _to_esaw(self, site: Site, flow: Flow) -> Reply:
        location = authorize_url(
            site.organization.spec.base_url,
            site.oauth.authorize_path,
            client_id=site.oauth.client_id,
            redirect_uri=site.places.redirect_uri,
            state=flow.state,
            verifier=flow.verifier,
        )
        cookie = site.places.set_flow(flow, self._flows.sealed(flow), seconds=self._limits.flow_seconds)
        return Reply(location=location, cookies=(cookie,))

    async def _known_sender(self, site: Site, name: str) -> Sender:
        sender = await self._consents.known(site.organization, name)
        if sender is None:
            raise Trouble(Kind.NOT_FOUND, "no such Sender of this organization")
        if sender.spec.token_secret_ref is not None:
            raise Trouble(Kind.BRINGS_KEY, f"Sender/{name} has a spec.tokenSecretRef")
        return sender

    # -- Back from eSAW -------------------------------------------------------------------------------------

    async def come_back(self, site: Site, visit: Visit) -> Reply:
        """ESAW sent the browser back, with a code if all went well."""
        state = visit.query.get("state", "")
        flow = self._flows.flow_of(visit.cookies, site.organization.name, state) if state else None
        if flow is None:
            raise Trouble(Kind.STATE_MISSING, "no such state in this browser, or too old")
        visit.again = site.places.again(flow)
        visit.drops = (site.places.drop_flow(state),)
        code = _code(site, visit.query)
        if not await self._notes.use_state(state):
            raise Trouble(Kind.STATE_USED, "the state was used before")
        consent = await self._consents.obtain(
            self._esaws.of(site.organization),
            site.oauth,
            flow,
            code=code,
            redirect_uri=site.places.redirect_uri,
        )
        sender = await self._consents.keep(site.organization, consent, flow.sender)
        if flow.draft is None:
            return Reply(location=site.places.thanks(sender.name))
        if _fields(site) or not flow.is_own_click:
            session = self._flows.open_form(flow, flow.draft)
            cookie = site.places.set_session(
                session, self._flows.sealed(session), seconds=self._limits.form_seconds
            )
            return Reply(location=site.places.form(flow.draft, flow.user_id), cookies=(cookie,))
        await self._send(site, sender, consent.token, flow.draft, None)
        return Reply(location=site.places.inbox)

    async def thanks(self, site: Site, visit: Visit, sender_name: str) -> Reply:
        """Tell that the key was renewed; says nothing about the Sender, so it need not exist."""
        links = [Link("to_inbox", site.places.inbox)]
        return Reply(html=self._renderer.message(visit.words, "consent_given", links=links, is_trouble=False))

    # -- The form -------------------------------------------------------------------------------------------

    async def show_form(self, site: Site, visit: Visit) -> Reply:
        """Show the form, with a button alone if no tags are asked for; to the inbox if the draft is sent, through eSAW if it is not known who asks."""
        draft, user_id = draft_and_user(visit.query)
        session = self._flows.session_of(visit.cookies, site.organization.name, draft, user_id)
        visit.again = site.places.before_send(draft, user_id)
        if session is None:
            return Reply(location=visit.again)
        if await self._sending.was_sent(session.organization, session.sender, draft):
            return Reply(location=site.places.inbox)
        _, token = await self._sender_and_key(site, session)
        user = self._esaws.of(site.organization).as_user(token)
        asked = _fields(site)
        try:
            name = (await drafts.look_at(user, draft)).name
            known = await self._known_tags(user, draft, asked)
        except EsawProblem as problem:
            raise of_esaw(problem) from problem
        return self._form(site, visit, session, tagging.empty(asked, known), name)

    async def _known_tags(
        self, user: EsawUser, draft: str, asked: tuple[BeforeSendField, ...]
    ) -> Mapping[str, str]:
        if not asked:
            return {}
        metadata = (await drafts.configuration(user, draft)).metadata
        try:
            return values_in(metadata, tuple(each.name for each in asked), limit=self._limits.metadata)
        except MetadataUnreadable as unreadable:
            raise Trouble(Kind.METADATA_UNREADABLE, str(unreadable)) from None

    async def take_form(self, site: Site, visit: Visit) -> Reply:
        """Take the form, with tags if they are asked for, and send the draft."""
        draft, user_id = draft_and_user(visit.query)
        visit.again = site.places.before_send(draft, user_id)
        session = self._flows.session_of(visit.cookies, site.organization.name, draft, user_id)
        if session is None:
            raise Trouble(Kind.FORM_EXPIRED, "no such form in this browser, or too old")
        if not self._flows.is_form_of(session, visit.form.get("form", "")):
            raise Trouble(Kind.FORM_EXPIRED, "the form carries no token of this browser's")
        fields = tagging.filled(_fields(site), visit.form, limit=self._limits.value)
        if any(each.fault for each in fields):
            if await self._sending.was_sent(session.organization, session.sender, draft):
                return self._sent(site, visit)
            return self._form(site, visit, session, fields, "")
        sender, token = await self._sender_and_key(site, session)
        await self._send(site, sender, token, draft, tagging.values_of(fields))
        return self._sent(site, visit)

    def _form(
        self, site: Site, visit: Visit, session: Session, fields: tuple[tagging.Field, ...], name: str
    ) -> Reply:
        has_faults = any(each.fault for each in fields)
        html = self._renderer.form(
            visit.words,
            action=site.places.form(session.draft, session.user_id),
            token=self._flows.form_token(session),
            fields=fields,
            name=name,
            has_faults=has_faults,
            value_limit=self._limits.value,
        )
        status = HTTPStatus.UNPROCESSABLE_ENTITY if has_faults else HTTPStatus.OK
        return Reply(html=html, status=status, has_form=True)

    async def _sender_and_key(self, site: Site, session: Session) -> tuple[Sender, ApiToken]:
        """Return whose form it is. Without a key the way through eSAW, which brings one, begins anew."""
        sender = await self._consents.known(site.organization, session.sender)
        key = await self._consents.key_of(sender) if sender is not None else None
        if sender is None or key is None:
            raise Trouble(Kind.FORM_EXPIRED, "the sender's key is gone")
        return sender, key

    async def _send(
        self, site: Site, sender: Sender, token: ApiToken, draft: str, tags: Mapping[str, str] | None
    ) -> None:
        user = self._esaws.of(site.organization).as_user(token)
        await self._sending.send(Job(site.organization, sender, user, draft, tags))

    def _sent(self, site: Site, visit: Visit) -> Reply:
        """
        Go on to the inbox after a form: by a page that leads there, not by a redirect.

        Browsers hold every redirect after a form against its page's policy, and an inbox may lie behind a login of which
        nobody knows over how many hosts it leads. What a page does by itself is no form any more. (CSP 3, form-action)
        """
        html = self._renderer.message(
            visit.words,
            "sent",
            links=[Link("to_inbox", site.places.inbox)],
            is_trouble=False,
            onward=site.places.inbox,
        )
        return Reply(html=html)


def _fields(site: Site) -> tuple[BeforeSendField, ...]:
    before_send = site.organization.spec.before_send
    return before_send.fields if before_send is not None else ()


def _code(site: Site, query: Mapping[str, str]) -> str:
    """Return the code that eSAW sent. Raises ``Trouble`` for anything else that came back."""
    issuer = query.get("iss")
    if issuer is not None and not _is_issued_by(issuer, site.organization.spec.base_url):
        raise Trouble(Kind.WRONG_ISSUER, "iss names another server than spec.baseURL")
    if query.get("error") == "access_denied":
        raise Trouble(Kind.DENIED, "the user did not consent")
    if "error" in query:
        raise Trouble(Kind.LOGIN_FAILED, "eSAW came back with an error instead of a code")
    code = query.get("code", "")
    if not code:
        raise Trouble(Kind.LOGIN_FAILED, "eSAW came back without a code")
    return code


def _is_issued_by(issuer: str, base_url: str) -> bool:
    """
    Whether an issuer is the organization's eSAW. (RFC 9207, 2.4)

    What eSAW calls itself is not documented: its host alone or with the path of its installation.
    """
    base = urlsplit(base_url)
    return issuer.rstrip("/") in {base_url.rstrip("/"), f"{base.scheme}://{base.netloc}"}
