"""The Envelope of an event, and the Sender that it names."""

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import NotFound
from counterfoil.resources import Envelope, EnvelopeEvent, ResourceInvalid


async def read_envelope(kube: KubeClient, event: EnvelopeEvent) -> Envelope | None:
    """Return the Envelope of this id, of any Organization; None: there is none that can be read. Raises
    ``ApiError``."""
    try:
        return Envelope.parse(await kube.get(Envelope, event.spec.envelope_id))
    except (NotFound, ResourceInvalid):
        return None


def recorded_sender(envelope: Envelope | None, event: EnvelopeEvent) -> str | None:
    """Return the name of the Sender that the Envelope names for this event; None: it names none."""
    # Two Organizations may be two eSAWs, and both may know an envelope of this id.
    if envelope is None or envelope.spec.organization_ref.name != event.organization:
        return None
    return envelope.spec.sender_ref.name
