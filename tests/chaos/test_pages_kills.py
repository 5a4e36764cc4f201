"""
SIGKILL for the pages between every two steps of before-send, before and after each request that they make.

The browser's person is left with a broken connection. Either the person comes back and tries again, or nobody
ever does; in both cases the draft is sent at most once, and an envelope that was sent has its sender. The
killed process is started again, as Kubernetes would.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest

from counterfoil.esaw import ApiToken
from counterfoil.resources import consented_sender_name
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.api_proxy import api_proxy, kubeconfig_through
from sandbox.environment.local import local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import Recipient, User
from sandbox.esaw.browser import Browser
from sandbox.servers.proxies import Cut, Passage, Proxy, Ticks, TrapPoint, Where
from tests.support.pauses import eventually
from tests.support.scenes.chaos import kills
from tests.support.scenes.pages import ATTEMPT, FIELDS, PASSWORD, Scene
from webhook.pages.send_lease import DRAFT_ANNOTATION, ENVELOPE_ANNOTATION, ENVELOPES_ANNOTATION

TRIES = 40


@dataclass(frozen=True)
class Victim:
    """The pages, and the proxies on their ways."""

    scene: Scene
    api: Proxy
    esaw: Proxy

    @property
    def process(self) -> CounterfoilProcess:
        return self.scene.pages

    async def stands(self) -> None:
        """Make sure that it works and nothing threatens it, also when the test before failed."""
        self.api.clear()
        self.esaw.clear()
        if self.process.server.ended:
            await self.process.start()


@dataclass(frozen=True)
class Step:
    """One request of the pages between Send and the inbox."""

    name: str
    way: str
    where: Where

    def __str__(self) -> str:
        return self.name


def asks_api(method: str, plural: str, *, note: str = "") -> Where:
    """A request about objects of this kind; of Leases, about a note of this kind."""

    def knows(passage: Passage) -> bool:
        if passage.method != method or f"/{plural}" not in passage.path:
            return False
        return (
            not note
            or f"counterfoil-{note}-" in passage.path
            or f"counterfoil-{note}-" in passage.body.decode()
        )

    return knows


def asks_esaw(method: str, tail: str) -> Where:
    return lambda passage: passage.method == method and passage.path.lower().rstrip("/").endswith(tail)


STEPS = (
    Step("use the state", "api", asks_api("POST", "leases", note="state")),
    Step("read the client secret", "api", asks_api("GET", "secrets/acme-oauth")),
    Step("exchange the code", "esaw", asks_esaw("POST", "/apitoken/retrieve")),
    Step("ask whose key it is", "esaw", asks_esaw("GET", "/authorization/whoami")),
    Step("make the Sender", "api", asks_api("POST", "senders")),
    Step("put the key away", "api", asks_api("POST", "secrets")),
    Step("tell the Sender", "api", asks_api("PATCH", "senders")),
    Step("note the draft", "api", asks_api("POST", "leases", note="draft")),
    Step("tag the draft", "esaw", asks_esaw("POST", "/draft/update")),
    Step("send the draft", "esaw", asks_esaw("POST", "/draft/send")),
    Step("write the Envelope", "api", asks_api("POST", "envelopes")),
    Step("settle the note", "api", asks_api("PATCH", "leases", note="draft")),
)


@pytest.fixture(scope="module")
async def killed(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Victim]:
    """Pages with a proxy on each of their ways."""
    namespace, folder, ticks = "pages-kills", tmp_path_factory.mktemp("pages"), Ticks()
    await plane.namespace(namespace)
    async with (
        local_environment(plane, folder, namespace=namespace) as built,
        api_proxy(plane, ticks) as api,
        Proxy(built.esaw.url, ticks=ticks) as esaw,
    ):
        kubeconfig = folder / "pages.kubeconfig"
        await kubeconfig_through(api, plane, "pages", namespace, kubeconfig)
        pages = await built.pages(kubeconfig=kubeconfig, attempt=ATTEMPT)
        standin = built.esaw
        app = standin.register_app(name="Counterfoil", redirect_uris=[f"{pages.public}/oauth/acme/return"])
        nobody = standin.add_user(email="nobody@example.com", given_name="No", surname="Body")
        scene = Scene(built, pages, app, nobody, nobody)
        await built.secret("acme-oauth", "oauth", clientSecret=app.client_secret, origin=esaw.url)
        await scene.organization(baseURL=esaw.url, beforeSend={"fields": FIELDS})
        yield Victim(scene, api, esaw)


@pytest.fixture
async def victim(killed: Victim) -> AsyncIterator[Victim]:
    await killed.stands()
    yield killed
    await killed.stands()


async def sits_down(victim: Victim, name: str) -> tuple[User, Browser, str]:
    """Somebody who never consented signs in, with a draft to send."""
    scene = victim.scene
    user = scene.a_user(name)
    browser = Browser()
    # By the way that the pages name, or the browser would be signed in somewhere else.
    await browser.open(f"{victim.esaw.url}/Account/Login")
    await browser.press("Sign in", email=user.email, password=PASSWORD)
    return user, browser, scene.esaw.add_draft(owner=user, metadata="<m><kept>1</kept></m>")


async def tries(victim: Victim, user: User, browser: Browser, draft: str) -> bool:
    """Press what there is to press, once from the beginning; whether there is nothing left to press.

    That is the inbox, or the page about a draft that is gone, if the attempt that was killed sent it.
    """
    scene = victim.scene
    await browser.open(scene.link(draft, user))
    if "Allow" in browser.page.buttons:
        await browser.press("Allow")
    if "Send envelope" in browser.page.buttons:
        await browser.press("Send envelope", **{"tag.costCenter": "4711"})
    if sent(victim, draft):
        return browser.page.url == f"{scene.esaw.url}/Inbox/Index" or "draft_missing" in browser.page.text
    return False


async def is_killed_at(
    victim: Victim, step: Step, point: TrapPoint, user: User, browser: Browser, draft: str
) -> None:
    """Let the person try, and kill the pages at that step; then start them again."""
    way = victim.api if step.way == "api" else victim.esaw
    trap = way.trap(step.where, point, kills(victim.process))
    with contextlib.suppress(httpx.TransportError):
        await tries(victim, user, browser, draft)
    assert trap.sprung.is_set(), f"{step} never came; the browser shows {browser.page.text!r}"
    await victim.process.start()


async def is_known(victim: Victim, user: User, draft: str) -> bool:
    """Whether the envelope that the draft became has its sender."""
    envelope = victim.scene.esaw.envelope_of(draft)
    spec = (await victim.scene.envelopes()).get(envelope or "")
    return spec is not None and spec["senderRef"]["name"] == consented_sender_name("acme", user.user_id)


async def is_settled(victim: Victim, draft: str) -> bool:
    """Whether the note about the draft says that there is nothing left to do."""
    notes = [each["metadata"].get("annotations", {}) for each in await victim.scene.listed("leases")]
    return any(each.get(DRAFT_ANNOTATION) == draft and ENVELOPE_ANNOTATION in each for each in notes)


def sent(victim: Victim, draft: str) -> int:
    return [each.outcome for each in victim.scene.esaw.sends(draft)].count(200)


@pytest.mark.parametrize("point", [TrapPoint.ARRIVED, TrapPoint.DONE], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_a_person_who_returns_after_a_kill_sends_the_draft_once(
    victim: Victim, step: Step, point: TrapPoint
) -> None:
    user, browser, draft = await sits_down(victim, f"{point.name}-{STEPS.index(step)}")
    await is_killed_at(victim, step, point, user, browser, draft)

    for _ in range(TRIES):
        if await tries(victim, user, browser, draft):
            break
        await asyncio.sleep(0.25)

    assert sent(victim, draft) == 1, browser.page.text
    await eventually(lambda: is_known(victim, user, draft))
    metadata = await victim.scene.metadata(victim.scene.esaw.envelope_of(draft) or "", user)
    assert "<kept>1</kept>" in metadata
    assert metadata.count("<costCenter>4711</costCenter>") == 1


@pytest.mark.parametrize("point", [TrapPoint.ARRIVED, TrapPoint.DONE], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS[-3:], ids=str)
async def test_an_envelope_that_was_sent_gets_its_sender_even_if_nobody_comes_back(
    victim: Victim, step: Step, point: TrapPoint
) -> None:
    user, browser, draft = await sits_down(victim, f"gone-{point.name}-{STEPS.index(step)}")
    await is_killed_at(victim, step, point, user, browser, draft)

    if step.name == "send the draft" and point is TrapPoint.ARRIVED:
        assert sent(victim, draft) == 0, "and nobody but its user sends it"
        return
    assert sent(victim, draft) == 1
    await eventually(lambda: is_known(victim, user, draft))
    if (await victim.scene.envelopes())[victim.scene.esaw.envelope_of(draft) or ""].get("draftID") == draft:
        # Then it is certain what the draft became. Also so that the repair is not the one that the next test
        # strikes.
        await eventually(lambda: is_settled(victim, draft))


# A bulk

BULK = 8


def stores_ids(passage: Passage) -> bool:
    """The write of the ids of a bulk into the note about its draft."""
    return asks_api("PATCH", "leases", note="draft")(passage) and bool(
        passage.json["metadata"].get("annotations", {}).get(ENVELOPES_ANNOTATION)
    )


def settles(passage: Passage) -> bool:
    """The write that there is nothing left to do about a draft."""
    return asks_api("PATCH", "leases", note="draft")(passage) and ENVELOPE_ANNOTATION in str(passage.json)


def the_fifth(where: Where) -> Where:
    """The fifth of such requests."""
    count = itertools.count(1)
    return lambda passage: where(passage) and next(count) == 5


BULK_STEPS = (
    Step("send the draft", "esaw", asks_esaw("POST", "/draft/send")),
    Step("store the ids", "api", stores_ids),
    Step("write the fifth Envelope", "api", asks_api("POST", "envelopes")),
    Step("settle the note", "api", settles),
)


@pytest.mark.parametrize("comes_back", [True, False], ids=["comes back", "does not"])
@pytest.mark.parametrize("point", [TrapPoint.ARRIVED, TrapPoint.DONE], ids=["before", "after"])
@pytest.mark.parametrize("step", BULK_STEPS, ids=str)
async def test_each_envelope_of_a_bulk_has_its_sender_after_a_kill_and_the_bulk_is_sent_once(
    victim: Victim, step: Step, point: TrapPoint, comes_back: bool
) -> None:
    name = f"bulk-{point.name}-{BULK_STEPS.index(step)}-{comes_back}"
    user, browser, _ = await sits_down(victim, name)
    people = [Recipient(email=f"kim-{number}@people.example") for number in range(BULK)]
    draft = victim.scene.esaw.add_draft(owner=user, bulk_recipients=people)
    if "fifth" in step.name:
        step = replace(step, where=the_fifth(step.where))
    await is_killed_at(victim, step, point, user, browser, draft)

    if comes_back:
        for _ in range(TRIES):
            if await tries(victim, user, browser, draft):
                break
            await asyncio.sleep(0.25)
    elif step.name == "send the draft" and point is TrapPoint.ARRIVED:
        assert sent(victim, draft) == 0, "and nobody but its user sends it"
        return

    assert sent(victim, draft) == 1, browser.page.text
    children = victim.scene.esaw.envelopes_of(draft)
    sender = consented_sender_name("acme", user.user_id)

    async def are_known() -> bool:
        specs = await victim.scene.envelopes()
        return all(child in specs and specs[child]["senderRef"]["name"] == sender for child in children)

    await eventually(are_known)
    if (await victim.scene.envelopes())[children[0]].get("draftID") is not None:
        await eventually(lambda: is_settled(victim, draft))
        specs = await victim.scene.envelopes()
        assert {specs[child]["draftID"] for child in children} == {draft}
    assert "people.example" not in await victim.scene.left_objects()


CONSENT_STEPS = (
    *STEPS[:4],
    Step("replace the key", "api", asks_api("PATCH", "secrets")),
    Step("tell the Sender", "api", asks_api("PATCH", "senders")),
)


@pytest.mark.parametrize("point", [TrapPoint.ARRIVED, TrapPoint.DONE], ids=["before", "after"])
@pytest.mark.parametrize("step", CONSENT_STEPS, ids=str)
async def test_a_person_who_follows_the_link_in_a_mail_again_after_a_kill_has_a_key_that_works(
    victim: Victim, step: Step, point: TrapPoint
) -> None:
    scene = victim.scene
    user, browser, draft = await sits_down(victim, f"renews-{point.name}-{CONSENT_STEPS.index(step)}")
    assert await tries(victim, user, browser, draft), browser.page.text
    scene.esaw.withdraw_consent(user, scene.app.client_id)
    name = consented_sender_name("acme", user.user_id)

    async def follows_the_link() -> bool:
        await browser.open(f"{scene.pages.public}/consent/acme/{name}")
        if "Allow" in browser.page.buttons:
            await browser.press("Allow")
        return browser.page.title == "Thank you"

    trap = (victim.api if step.way == "api" else victim.esaw).trap(step.where, point, kills(victim.process))
    with contextlib.suppress(httpx.TransportError):
        await follows_the_link()
    assert trap.sprung.is_set(), f"{step} never came; the browser shows {browser.page.text!r}"
    await victim.process.start()

    assert await follows_the_link(), browser.page.text
    sender = await scene.local_environment.read("sender", name)
    token = await scene.token(sender)
    assert sender["status"]["conditions"][0]["status"] == "True"
    assert (
        sender["status"]["key"]["fingerprint"] == ApiToken.parse(token.encode(), scene.esaw.url).fingerprint
    )
    assert scene.esaw.requests("whoami")[-1].outcome == 200


async def test_when_the_api_server_is_down_just_after_sending_the_person_continues_and_the_sender_follows(
    victim: Victim,
) -> None:
    user, browser, draft = await sits_down(victim, "outage")

    async def goes_away() -> None:
        outage.append(victim.api.trap(lambda passage: True, TrapPoint.ARRIVED, cut, times=None))

    async def cut() -> None:
        raise Cut

    outage: list[object] = []
    victim.esaw.trap(asks_esaw("POST", "/draft/send"), TrapPoint.DONE, goes_away)

    assert await tries(victim, user, browser, draft) or "unknown_outcome" in browser.page.text
    victim.api.clear()

    await eventually(lambda: is_known(victim, user, draft))
    assert sent(victim, draft) == 1
