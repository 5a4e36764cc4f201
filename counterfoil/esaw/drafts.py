"""
Drafts: the calls of the before-send page for the draft that its user sends.

Only ``webhook.pages`` may import this module: no other part of Counterfoil sends envelopes. Each function is
one call of the REST API v6 and raises an ``EsawError`` when the call fails; the caller decides whether to
repeat it. A draft id is a GUID, as all ids of eSAW are; other ids raise ``ValueError``.
"""

from datetime import datetime

from counterfoil.esaw import models
from counterfoil.esaw.client import EsawUserClient, rfc3339
from counterfoil.esaw.errors import HttpStatusError, ResponseInvalid
from counterfoil.esaw.transport import EsawCall
from counterfoil.resources import EnvelopeId, envelope_id


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
    return await user.call(EsawCall("draft_configuration", "GET", path), models.ConfigurationResponse)


async def update_metadata(user: EsawUserClient, draft: str, metadata: str) -> None:
    """Replace the draft's metadata. May be repeated. (Namirial, "Document Tagging Scenario")"""
    body = {"DraftId": envelope_id(draft), "MetaData": metadata}
    call = EsawCall("draft_update", "POST", "draft/update", body)
    await user.read(call, models.expect_no_result)


async def send(user: EsawUserClient, draft: str) -> EnvelopeId | None:
    """
    Send the draft; return the id of its envelope, or None for a bulk, which has many.

    Must not simply be repeated: when no answer came it may have been sent. Raises ``ResponseInvalid`` when it
    was sent and the answer does not say as what.
    """
    call = EsawCall("draft_send", "POST", "draft/send", {"DraftId": envelope_id(draft)})
    answer = await user.call(call, models.SendDraftResponse)
    if answer.envelope is None:
        return None
    try:
        return envelope_id(answer.envelope.envelope_id)
    except ValueError:
        raise ResponseInvalid(call.operation, "its EnvelopeId is no GUID") from None


async def find_sent_since(
    user: EsawUserClient, email: str, start: datetime
) -> tuple[models.FoundEnvelope, ...]:
    """Return the envelopes in any status that this address sent after that time and that the user can see."""
    call = EsawCall("find", "POST", "envelope/find", {"StartDate": rfc3339(start), "SenderEmail": email})
    return (await user.call(call, models.FindResponse)).envelopes or ()
