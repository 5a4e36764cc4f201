"""
The people of a round who send drafts with the page before sending: each opens the page in a browser, presses
what there is to press, and tries again after an error, as people do.

Each answer is recorded with what was sent before and after it. The checker compares both.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import Browser, OAuthApp, Recipient, StandIn, User
from sandbox.servers.proxies import Proxy
from verification.chaos.checker import NO_DRAFT
from verification.chaos.plan import DraftOrder

NAME: Final = "desk"
"""Name of their Organization. The events of an Organization wait for up to five minutes while one of its
drafts is open, so the other envelopes belong to another one."""
PASSWORD: Final = "a password of a sender's own"  # noqa: S105 - of the stand-in
TRIES: Final = 6
"""Number of pages that a person sees while faults strike before giving up; tries without a page are more."""
LAST_TRIES: Final = 40
"""Number of times that a person tries when all faults have ended."""
PAUSE_SECONDS: Final = 1.0
NO_PAGE: Final = (httpx.TransportError, LookupError, RecursionError, ValueError)
"""Errors of a browser that gets no answer, or none with what a person looks for."""


@dataclass
class Visit:
    """The page that a person saw at the end of one try."""

    is_inbox: bool
    text: str
    sent_before: int
    """Number of times that eSAW had sent the draft when the try began."""
    sent: int
    """The same when the page was there."""


@dataclass(eq=False)
class Draft:
    """One draft, its owner, and each page that the owner saw."""

    id: str
    owner: User
    order: DraftOrder
    visits: list[Visit] = field(default_factory=list)

    @property
    def pages_seen(self) -> int:
        """Number of tries that ended with a page."""
        return sum(bool(each.text) for each in self.visits)


@dataclass(eq=False)
class Senders:
    """All who send drafts in a round, and the application that they give their consent to."""

    esaw: StandIn
    way: Proxy
    """The proxy before eSAW, by which the pages lead a browser there."""
    pages: CounterfoilProcess
    app: OAuthApp
    inbox: str
    people: list[User] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)

    def add_drafts(self, orders: tuple[DraftOrder, ...]) -> None:
        """Make the drafts of a plan, and their owners."""
        for number in range(1 + max(each.person for each in orders)):
            email, name = f"sender-{number}@example.com", f"Sender{number}"
            user = self.esaw.add_user(email=email, given_name=name, surname="Rossi", password=PASSWORD)
            self.people.append(user)
        for order in orders:
            owner = self.people[order.person]
            recipients = [Recipient(email=f"to-{each}@people.example") for each in range(order.bulk)]
            draft = self.esaw.add_draft(owner=owner, bulk_recipients=recipients)
            self.drafts.append(Draft(draft, owner, order))

    async def send_all(self) -> None:
        """Let each person try to send each draft while faults strike."""
        await asyncio.gather(*(self._send_later(each) for each in self.drafts))

    async def return_all(self, *, restored: bool) -> tuple[str, ...]:
        """
        Let people who return send the drafts that they could not send, and let all consent again.

        Returns what they could not do. The pages can only say that there is no such draft if an etcd was
        ``restored``, since the Lease of a draft that was sent can be lost. The same is true if the envelope
        was archived and deleted before the API server stored that the draft was sent.
        """
        problems = await asyncio.gather(
            *(
                self._send_at_last(each, restored=restored)
                for each in self.drafts
                if each.order.returns and not self._saw_inbox(each)
            )
        )
        return tuple(filter(None, problems))

    async def consent(self, user: User, sender: str) -> bool:
        """Follow the link in a mail; return whether the page says that the consent is stored."""
        async with Browser() as browser:
            with suppress(*NO_PAGE):
                await self._sign_in(browser, user)
                await browser.open(f"{self.pages.public}/consent/{NAME}/{sender}")
                if "Allow" in browser.page.buttons:
                    await browser.press("Allow")
            return browser.page.title == "Thank you"

    def leave(self, user: User) -> bool:
        """Withdraw the consent of a person; return whether there was one."""
        try:
            self.esaw.withdraw_consent(user, self.app.client_id)
        except ValueError:
            return False
        return True

    def sent(self, draft: str) -> int:
        """Return how often eSAW sent a draft."""
        return sum(each.outcome == 200 for each in self.esaw.sends(draft))

    def first_envelopes(self) -> dict[str, User]:
        """Return the first envelope of each draft that was sent, and its owner."""
        found = ((self.esaw.envelopes_of(draft.id), draft.owner) for draft in self.drafts)
        return {envelopes[0]: owner for envelopes, owner in found if envelopes}

    async def _send_later(self, draft: Draft) -> None:
        await asyncio.sleep(draft.order.after)
        async with Browser() as browser:
            for _ in range(LAST_TRIES):
                if await self._try(browser, draft) or draft.pages_seen >= TRIES:
                    return
                await asyncio.sleep(PAUSE_SECONDS)

    async def _send_at_last(self, draft: Draft, *, restored: bool) -> str | None:
        async with Browser() as browser:
            for _ in range(LAST_TRIES):
                if await self._try(browser, draft):
                    return None
                is_shown = any(map(self.esaw.exists, self.esaw.envelopes_of(draft.id)))
                if NO_DRAFT in browser.page.text and self.sent(draft.id) and (restored or not is_shown):
                    return None
                await asyncio.sleep(PAUSE_SECONDS)
            return f"draft {draft.id}: its owner can't send it ({browser.page.text[:200]})"

    def _saw_inbox(self, draft: Draft) -> bool:
        return any(each.is_inbox for each in draft.visits)

    async def _try(self, browser: Browser, draft: Draft) -> bool:
        """Open the page before sending, press what there is to press; return whether the inbox opens."""
        before = self.sent(draft.id)
        query = (
            f"draftId={draft.id}&userId={draft.owner.user_id}&organizationId={self.esaw.organization_id()}"
        )
        try:
            await self._sign_in(browser, draft.owner)
            await browser.open(f"{self.pages.public}/before-send/{NAME}?{query}")
            if "Allow" in browser.page.buttons:
                await browser.press("Allow")
            if "Send envelope" in browser.page.buttons:
                await browser.press("Send envelope")
        except NO_PAGE:
            # Without a page there is no claim, but the draft may be sent: that is not the page before.
            draft.visits.append(Visit(False, "", before, self.sent(draft.id)))
            return False
        page = browser.page
        visit = Visit(page.url == self.inbox, page.text, before, self.sent(draft.id))
        draft.visits.append(visit)
        return visit.is_inbox

    async def _sign_in(self, browser: Browser, user: User) -> None:
        if not len(browser.cookies):
            # By the way that the pages name, or the browser would be signed in somewhere else.
            await browser.open(f"{self.way.url}/Account/Login")
            await browser.press("Sign in", email=user.email, password=PASSWORD)


def spec_of(senders: Senders) -> dict[str, Any]:
    """Return what the Organization says about eSAW and the pages."""
    secret = {"name": f"{NAME}-oauth", "key": "clientSecret"}
    return {
        "baseURL": senders.way.url,
        "oauth": {
            "clientID": senders.app.client_id,
            "clientSecretRef": secret,
            "publicURL": senders.pages.public,
        },
        "beforeSend": {"inboxURL": senders.inbox},
    }
