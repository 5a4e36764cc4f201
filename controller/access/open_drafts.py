"""
Whether a draft of an Organization may still become the envelope of an event, by the Leases of the pages.

The pages create the Lease of a draft before they send it, and mark it as sent after they recorded the sender.
Until then, an event of the Organization may belong to that draft. A Lease delays an event and proves nothing
else, so it is believed for a bounded time only (rule 13).
"""

from datetime import datetime, timedelta
from typing import Final

from counterfoil.kube.client import KubeClient
from counterfoil.resources import ORGANIZATION_LABEL
from counterfoil.resources.lease import KIND_DRAFT, LEASE_KIND_LABEL, Lease

MAX_AGE: Final = timedelta(days=1)
"""Maximum age of a Lease for which an event waits."""


async def is_draft_open(kube: KubeClient, organization: str, received: datetime, now: datetime) -> bool:
    """
    Whether a draft was being sent when an event was received, and is not known to be recorded.

    Raises ``ApiError``.
    """
    labels = f"{LEASE_KIND_LABEL}={KIND_DRAFT},{ORGANIZATION_LABEL}={organization}"
    async for lease in kube.list_readable(Lease, labels=labels):
        created = lease.metadata.creation_timestamp
        if created is not None and created <= received and now - created < MAX_AGE:
            return True
    return False
