"""The path and the query of a callback, up to the object that is created for it."""

import msgspec

from counterfoil.resources import EnvelopeEvent
from counterfoil.resources.envelopeevent import MAX_PARAMETER_LENGTH
from counterfoil.resources.event_factory import new_event
from verification.fuzz.target import Check, Target, expect, joined, parts_of, promised, text_of
from webhook.receiver.callback import MalformedCallback, parse_callback
from webhook.receiver.callback_to_event import callback_address
from webhook.receiver.limits import ReceiverLimits

GUID = "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10"
OWN_NAMES = {"costcenter": "costCenter", "case": "case"}


def _prepare() -> Check:
    limits = ReceiverLimits()

    def check(data: bytes) -> None:
        path, query = parts_of(data, 2)
        found = callback_address(text_of(path))
        is_complete = found is None or all(found[1:])
        expect(is_complete, "organization and token are not empty")
        callback = parse_callback(text_of(query), max_parameters=limits.parameters, own_names=OWN_NAMES)
        expect(set(callback.own) <= set(OWN_NAMES.values()), "only own parameters are read")
        expect(
            all("@" not in each and len(each) <= MAX_PARAMETER_LENGTH for each in callback.own.values()),
            "an own parameter is short, and no e-mail address",
        )
        event = new_event(
            organization="acme",
            envelope=callback.envelope_id,
            action=callback.action or "envelopeFinished",
            workstep=callback.workstep,
            parameters=callback.own,
            sender=None,
            traceparent=None,
        )
        with promised("a callback that was read becomes an object"):
            encoded = msgspec.json.encode(event)
            parsed = EnvelopeEvent.parse(msgspec.json.decode(encoded))
        expect(parsed.spec.envelope_id == callback.envelope_id, "the object is about the envelope")
        expect(b"@" not in encoded, "no e-mail address is stored")

    return check


TARGET = Target(
    subject="path and query of a callback",
    documented=(MalformedCallback,),
    seeds=(
        joined("/callbacks/acme/a-good-token-0123456789", f"envelopeId={GUID}&action=envelopeFinished"),
        joined(
            "/callbacks/acme/a%2Dgood",
            f"envelope={GUID.upper()}&Action=workstepFinished&workstepId=ab-1&eventType=x&source=y"
            "&time=2026-01-01T00:00:00Z&costCenter=47%20a&CASE=%C3%A4",
        ),
        joined("/callbacks/unit-a/acme/a-good-token-0123456789", f"envelopeId={GUID}"),
        joined("/", "envelopeId=##EnvelopeId##&action=##Action##"),
        joined("/callbacks//", f"envelopeId={GUID}&envelopeId=b&%ff=%ff"),
    ),
    words=(
        *(b"envelopeId= action= workstepId= costCenter= & % ## \xed\xa0\x80").split(b" "),
        GUID.encode(),
    ),
    prepare=_prepare,
)
