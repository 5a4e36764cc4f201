"""
Drafts: what the before-send page does with the draft that its user was about to send, and nothing else.

Only ``webhook.pages`` may import this module: nothing else in Counterfoil ever sends. Each function is one call of the
REST API v6 and one of the ``problems`` when it fails; who calls knows whether it may be repeated. A draft id counts as a
GUID, as all ids of eSAW do; ``ValueError`` for anything else.
"""

from datetime import datetime
from functools import partial

from counterfoil.esaw.answers import (
    ConfigurationAnswer,
    DraftAnswer,
    FindAnswer,
    FoundEnvelope,
    SentAnswer,
    decode,
)
from counterfoil.esaw.client import EsawUser, rfc3339
from counterfoil.esaw.exchange import Call
from counterfoil.esaw.problems import Answered, AnswerUnreadable
from counterfoil.resources import EnvelopeId, envelope_id


async def look_at(user: EsawUser, draft: str) -> DraftAnswer:
    """Return the draft's name. ``Answered.is_missing_draft`` when this user has no such draft (any more)."""
    call = Call("draft", "GET", f"draft/{envelope_id(draft)}")
    return await user.exchange.ask(call, user.token, partial(decode, DraftAnswer, call.operation))


async def exists(user: EsawUser, draft: str) -> bool:
    """Whether the user still has this draft, which also means that it was not sent."""
    try:
        await look_at(user, draft)
    except Answered as answer:
        if answer.is_missing_draft:
            return False
        raise
    return True


async def configuration(user: EsawUser, draft: str) -> ConfigurationAnswer:
    """Return how the draft is set up: its metadata."""
    call = Call("draft_configuration", "GET", f"draft/{envelope_id(draft)}/configuration")
    return await user.exchange.ask(call, user.token, partial(decode, ConfigurationAnswer, call.operation))


async def update_metadata(user: EsawUser, draft: str, metadata: str) -> None:
    """Replace the draft's metadata. May be repeated. (Namirial, "Document Tagging Scenario")"""
    body = {"DraftId": envelope_id(draft), "MetaData": metadata}
    await user.exchange.ask(Call("draft_update", "POST", "draft/update", body), user.token, lambda _: None)


async def send(user: EsawUser, draft: str) -> EnvelopeId | None:
    """
    Send the draft; return the id of its envelope, or None for a bulk, which has many.

    Must not simply be repeated: when no answer came it may have been sent. Raises ``AnswerUnreadable`` when it was sent and
    the answer does not say as what.
    """
    call = Call("draft_send", "POST", "draft/send", {"DraftId": envelope_id(draft)})
    answer = await user.exchange.ask(call, user.token, partial(decode, SentAnswer, call.operation))
    if answer.envelope is None:
        return None
    try:
        return envelope_id(answer.envelope.envelope_id)
    except ValueError:
        raise AnswerUnreadable(call.operation, "its EnvelopeId is no GUID") from None


async def sent_since(user: EsawUser, email: str, start: datetime) -> tuple[FoundEnvelope, ...]:
    """Return the envelopes, whatever their status, that this address sent after that time, as far as the user sees them."""
    call = Call("find", "POST", "envelope/find", {"StartDate": rfc3339(start), "SenderEmail": email})
    answer = await user.exchange.ask(call, user.token, partial(decode, FindAnswer, call.operation))
    return answer.envelopes or ()
