"""Drafts: what the page before sending does with them, held against what the stand-in does."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import (
    ApiToken,
    EsawClient,
    EsawUserClient,
    HttpStatusError,
    ResponseInvalid,
    drafts,
    new_http_client,
)
from counterfoil.esaw.errors import ResponseTooLarge
from counterfoil.esaw.limits import MAX_BULK_ENVELOPES, MAX_SENT_HITS
from sandbox.esaw import Recipient, StandIn, User
from tests.support.servers.scripted_esaw import Script, against, answering
from tests.support.servers.standin_peers import anna, bruno

DRAFT = "0f9c1c2e-1111-2222-3333-444455556666"
OTHER = "0f9c1c2e-1111-2222-3333-444455557777"


def a_bulk(*children: str | None) -> dict[str, Any]:
    named = [{"EnvelopeId": each, "BulkRecipientEmail": "kim@example.com"} for each in children]
    bulk = {"EnvelopeBulkParentId": OTHER, "EnvelopeBulkChildren": named}
    return {"Envelope": None, "EnvelopeBulk": bulk}


class Scene:
    def __init__(self, esaw: StandIn, client: EsawClient) -> None:
        self.esaw = esaw
        self.anna = anna(esaw)
        self._client = client

    def user(self, user: User | None = None) -> EsawUserClient:
        return self._client.as_user(ApiToken.parse((user or self.anna).token, self._client.origin))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with StandIn() as esaw, new_http_client() as http:
        yield Scene(esaw, EsawClient(esaw.url, http=http, clock=WallClock(), observe=lambda *_: None))


async def test_a_draft_is_looked_at_tagged_and_sent(scene: Scene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna, name="Lease", metadata="<m/>")
    user = scene.user()
    assert (await drafts.get_draft(user, draft)).name == "Lease"
    assert (await drafts.configuration(user, draft)).metadata == "<m/>"

    await drafts.update_metadata(user, draft, "<m><a>1</a></m>")
    (envelope,) = await drafts.send(user, draft)

    assert envelope == scene.esaw.envelope_of(draft)
    assert (await user.configuration(envelope)).metadata == "<m><a>1</a></m>"
    assert not await drafts.exists(user, draft)


async def test_a_draft_that_was_sent_can_not_be_sent_again(scene: Scene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    await drafts.send(scene.user(), draft)

    with pytest.raises(HttpStatusError) as refused:
        await drafts.send(scene.user(), draft)

    assert refused.value.is_missing_draft


async def test_another_users_draft_is_not_there(scene: Scene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    other = scene.user(bruno(scene.esaw))

    assert not await drafts.exists(other, draft)
    for call in (
        drafts.send(other, draft),
        drafts.update_metadata(other, draft, "<m/>"),
        drafts.configuration(other, draft),
    ):
        with pytest.raises(HttpStatusError) as refused:
            await call
        assert refused.value.is_missing_draft
    assert scene.esaw.envelope_of(draft) is None


async def test_what_a_user_sent_since_is_found_in_any_status(scene: Scene) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    sent = {(await drafts.send(scene.user(), scene.esaw.add_draft(owner=scene.anna)))[0] for _ in range(3)}
    scene.esaw.add_envelope(sender=bruno(scene.esaw))

    found = await drafts.find_sent(scene.user(), scene.anna.email, before)

    assert {each.envelope for each in found} == sent
    assert {each.bulk_parent for each in found} == {""}
    after = datetime.now(UTC) + timedelta(minutes=1)
    assert await drafts.find_sent(scene.user(), scene.anna.email, after) == ()
    assert await drafts.find_sent(scene.user(), scene.anna.email, before - timedelta(1), before) == ()


async def test_the_envelopes_of_a_bulk_are_found_with_their_parent(scene: Scene) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    people = [Recipient(email=f"{name}@x.example") for name in "abc"]
    draft = scene.esaw.add_draft(owner=scene.anna, bulk_recipients=people)

    sent = await drafts.send(scene.user(), draft)

    assert list(sent) == scene.esaw.envelopes_of(draft)
    found = await drafts.find_sent(scene.user(), scene.anna.email, before)
    assert [each.envelope for each in found] == list(sent)
    assert len({each.bulk_parent for each in found}) == 1


async def test_many_hits_that_are_no_guids_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    hits = {"Envelopes": [{"Id": f"x{number}"} for number in range(MAX_SENT_HITS - 1)] + [{"Id": DRAFT}]}
    async with against(answering(hits)) as setup:
        found = await drafts.find_sent(setup.user, "anna@example.com", datetime.now(UTC))
    assert found == ((DRAFT, ""),)
    (warning,) = caplog.records
    assert f"{MAX_SENT_HITS - 1} envelopes without a GUID" in warning.getMessage()


async def test_an_answer_with_more_hits_than_are_examined_asks_for_a_shorter_time() -> None:
    hits = {"Envelopes": [{"Id": "x"}] * (MAX_SENT_HITS + 1)}
    async with against(answering(hits)) as setup:
        with pytest.raises(ResponseTooLarge, match="more than 10000 envelopes"):
            await drafts.find_sent(setup.user, "anna@example.com", datetime.now(UTC))


async def test_a_hit_that_is_no_guid_does_not_hide_the_others() -> None:
    hits = {"Envelopes": [{"Id": "x", "EnvelopeBulkParentId": 7 * "a"}, {"Id": DRAFT.upper()}]}
    async with against(answering(hits)) as setup:
        found = await drafts.find_sent(setup.user, "anna@example.com", datetime.now(UTC))
    assert found == ((DRAFT, ""),)


@pytest.mark.parametrize(
    ("script", "envelopes"),
    [
        (answering({"Envelope": {"EnvelopeId": DRAFT.upper()}, "EnvelopeBulk": None}), (DRAFT,)),
        (answering(a_bulk(DRAFT.upper(), OTHER, DRAFT)), (DRAFT, OTHER)),
        (answering({**a_bulk(DRAFT), "Envelope": {"EnvelopeId": OTHER}}), (OTHER, DRAFT)),
    ],
    ids=["one", "bulk", "both"],
)
async def test_the_answer_to_sending_names_the_envelope_or_all_of_a_bulk(
    script: Script, envelopes: tuple[str, ...]
) -> None:
    async with against(script) as setup:
        assert await drafts.send(setup.user, DRAFT) == envelopes


@pytest.mark.parametrize(
    "body",
    [
        {"Envelope": {"EnvelopeId": "no GUID"}},
        {"Envelope": {}},
        {"Envelope": None, "EnvelopeBulk": {"EnvelopeBulkParentId": DRAFT}},
        a_bulk(),
        a_bulk(DRAFT, "no GUID"),
        a_bulk(DRAFT, None),
        a_bulk(*(str(UUID(int=number)) for number in range(MAX_BULK_ENVELOPES + 1))),
        {},
        b"<html>",
        b"",
    ],
    ids=lambda body: str(body)[:80],
)
async def test_an_answer_that_names_no_envelope_is_unreadable(body: object) -> None:
    async with against(answering(body)) as setup:
        with pytest.raises(ResponseInvalid):
            await drafts.send(setup.user, DRAFT)


async def test_what_is_no_guid_never_becomes_part_of_a_url() -> None:
    async with against(answering({})) as setup:
        for call in (drafts.send, drafts.exists, drafts.get_draft, drafts.configuration):
            with pytest.raises(ValueError, match="GUID"):
                await call(setup.user, "../envelope/find")
        assert setup.server.received == []
