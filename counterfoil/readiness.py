"""
The summary of an object for tools: the conditions ``Ready`` and ``Stalled``, as kstatus reads them. Pure.

kstatus (Flux, ``kubectl`` plugins, and Argo CD by the health check in docs/operating.md) calls an object
Current if ``Ready`` is True, Failed if ``Stalled`` is True, and InProgress otherwise. So ``Stalled`` is True
if and only if a person has to act: the catalogue of reasons decides.
"""

from datetime import datetime

from msgspec.structs import replace

from counterfoil.i18n.reasons import ReasonProperty, Responsible, find_reason, has_property
from counterfoil.resources import Condition, Sender, SenderStatus, find_condition
from counterfoil.resources.conditions import ConditionStatus, with_summary


def is_stalled(status: ConditionStatus, reason: str) -> bool:
    """Whether only a person can change a condition with this status and reason."""
    if status != "False" or has_property(reason, ReasonProperty.PASSING):
        return False
    return find_reason(reason).responsible is not Responsible.NOBODY


def with_readiness(
    conditions: tuple[Condition, ...],
    status: ConditionStatus,
    reason: str,
    message: str,
    *,
    now: datetime,
    generation: int,
) -> tuple[Condition, ...]:
    """Return the conditions with ``Ready`` set to this, and with the ``Stalled`` that follows from it."""
    stalled = is_stalled(status, reason)
    return with_summary(
        conditions, status, reason, message, is_stalled=stalled, now=now, generation=generation
    )


def with_sender_readiness(
    sender: Sender, status: SenderStatus, *, now: datetime, is_organization_missing: bool = False
) -> SenderStatus:
    """Return a new status of a Sender with the summary of its spec and of its condition ``Authorized``."""
    authorized = find_condition(status.conditions, "Authorized")
    truth: ConditionStatus = "False"
    if is_organization_missing:
        reason = "OrganizationMissing"
        name = sender.spec.organization_ref.name
        message = (
            f"Organization/{name} does not exist. Create it, or replace this Sender: spec.organizationRef "
            "never changes."
        )
    elif sender.spec.suspend:
        reason, message = "SenderSuspended", f"spec.suspend of Sender/{sender.name} is true."
    elif authorized is not None:
        truth, reason, message = authorized.status, authorized.reason, authorized.message
    else:
        return status
    generation = sender.metadata.generation
    conditions = with_readiness(status.conditions, truth, reason, message, now=now, generation=generation)
    return replace(status, conditions=conditions, observed_generation=generation)
