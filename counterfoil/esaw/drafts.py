"""
Drafts: the calls of the before-send page for the draft that its user sends.

Only ``webhook.pages`` may import this module: no other part of Counterfoil sends envelopes. Each function is
one call of the REST API v6 and raises an ``EsawError`` when the call fails; the caller decides whether to
repeat it. A draft id is a GUID, as all ids of eSAW are; other ids raise ``ValueError``.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from counterfoil.esaw import models
from counterfoil.esaw.client import EsawUserClient, rfc3339
from counterfoil.esaw.errors import HttpStatusError, ResponseInvalid, TooManyHits
from counterfoil.esaw.limits import MAX_BULK_ENVELOPES, MAX_SENT_HITS
from counterfoil.esaw.transport import EsawCall
from counterfoil.resources import EnvelopeId, envelope_id

_log = logging.getLogger(__name__)


async def get_draft(user: EsawUserClient, draft: str) -> models.DraftResponse:
    """Return the draft's name. ``HttpStatusError.is_missing_draft`` when this user has no such draft (any
    more)."""
    return await user.call(EsawCall("draft", "GET", f"draft/{envelope_id(draft)}"), models.DraftResponse)


async def exists(user: EsawUserClient, draft: str) -> bool:
    """Whether the user still has this draft, which also means that it was not sent."""
    try:
        await get_draft(user, draft)
    except HttpStatusError as answer:
        if answer.is_missing_draft:
            return False
        raise
    return True


async def configuration(user: EsawUserClient, draft: str) -> models.ConfigurationResponse:
    """Return how the draft is set up: its metadata."""
    path = f"draft/{envelope_id(draft)}/configuration"
    return await user.read(EsawCall("draft_configuration", "GET", path), models.decode_configuration)


async def update_metadata(user: EsawUserClient, draft: str, metadata: str) -> None:
    """Replace the draft's metadata. May be repeated. (Namirial, "Document Tagging Scenario")"""
    body = {"DraftId": envelope_id(draft), "MetaData": metadata}
    call = EsawCall("draft_update", "POST", "draft/update", body)
    await user.read(call, models.expect_no_result)


async def send(user: EsawUserClient, draft: str) -> tuple[EnvelopeId, ...]:
    """
    Send the draft; return the id of its envelope, or the ids of all envelopes of a bulk, each once.

    Must not simply be repeated: when no answer came it may have been sent. Raises ``ResponseInvalid`` when it
    was sent and the answer does not say as what.
    """
    call = EsawCall("draft_send", "POST", "draft/send", {"DraftId": envelope_id(draft)})
    answer = await user.call(call, models.SendDraftResponse)
    try:
        named = dict.fromkeys(each.envelope_id for each in answer.envelopes)
        # Before they are parsed: an answer may name a hundred thousand. One may have two spellings.
        if len(named) > 2 * MAX_BULK_ENVELOPES:
            raise ResponseInvalid(call.operation, f"it names more than {MAX_BULK_ENVELOPES} envelopes")
        envelopes = tuple(dict.fromkeys(map(envelope_id, named)))
    except ValueError:
        # To leave out this one would be to lose it.
        raise ResponseInvalid(call.operation, "an EnvelopeId in it is no GUID") from None
    if not envelopes:
        raise ResponseInvalid(call.operation, "it names no envelope")
    if len(envelopes) > MAX_BULK_ENVELOPES:
        raise ResponseInvalid(call.operation, f"it names more than {MAX_BULK_ENVELOPES} envelopes")
    return envelopes


class SentHit(NamedTuple):
    """An envelope that somebody sent, and the parent of the bulk that it was sent in."""

    envelope: EnvelopeId
    bulk_parent: str
    """Empty for an envelope that was sent on its own."""


async def find_sent(
    user: EsawUserClient, email: str, start: datetime, end: datetime | None = None
) -> tuple[SentHit, ...]:
    """
    Return the envelopes in any status that this address sent between the times and that the user can see.

    Raises ``ResponseTooLarge`` for too many; the caller then asks for a shorter time.
    """
    body = {"StartDate": rfc3339(start), "SenderEmail": email}
    if end is not None:
        body["EndDate"] = rfc3339(end)
    call = EsawCall("find", "POST", "envelope/find", body)
    hits = (await user.call(call, models.FindResponse)).envelopes or ()
    if len(hits) > MAX_SENT_HITS:
        raise TooManyHits(call.operation, MAX_SENT_HITS)
    usable = _usable(hits)
    if (others := len(hits) - len(usable)) > 0:
        _log.warning("eSAW listed %d envelopes without a GUID among those that were sent", others)
    return usable


def _usable(hits: Sequence[models.FoundEnvelope]) -> tuple[SentHit, ...]:
    usable = []
    for each in hits:
        with suppress(ValueError):
            usable.append(SentHit(envelope_id(each.id), (each.bulk_parent_id or "").lower()))
    return tuple(usable)
