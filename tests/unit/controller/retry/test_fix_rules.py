"""Which change can solve which trouble."""

import pytest

from controller.retry.fix_rules import archive_may_fix, organization_may_fix, sender_may_fix
from counterfoil.resources import EnvelopeEventStatus, LastError, Phase
from tests.support.builders import NOON


@pytest.mark.parametrize(
    ("reason", "archive", "organization", "sender"),
    [
        ("ArchiveNotReady", True, True, False),
        ("ArchivePermissionDenied", True, True, False),
        ("NameOccupied", True, True, False),
        ("TagMissing", True, True, False),
        ("MetadataUnreadable", True, True, False),
        ("SettingsInvalid", True, True, False),
        ("OrganizationMissing", False, True, False),
        ("SenderUnknown", False, True, False),
        ("SenderMissing", False, True, True),
        ("SenderOfOtherOrganization", False, True, True),
        ("EsawUnreachable", False, True, False),
        ("NotPermitted", False, False, True),
        ("UnsupportedApiVersion", False, False, False),
        ("EnvelopeNotFound", False, False, False),
        ("NotProven", False, False, False),
        ("InternalError", False, False, False),
        ("", False, False, False),
    ],
)
def test_a_change_is_only_said_to_solve_what_it_can(
    reason: str, archive: bool, organization: bool, sender: bool
) -> None:
    assert archive_may_fix(reason) is archive
    assert organization_may_fix(reason) is organization
    assert sender_may_fix(reason) is sender


def test_what_was_given_up_counts_by_its_last_trouble() -> None:
    error = LastError(reason="ArchiveFull", message="Full.", time=NOON)
    given_up = EnvelopeEventStatus(phase=Phase.FAILED, reason="DeadlineExceeded", last_error=error)
    assert given_up.cause == "ArchiveFull"
    assert (
        EnvelopeEventStatus(phase=Phase.FAILED, reason="TagMissing", last_error=error).cause == "TagMissing"
    )
    assert EnvelopeEventStatus().cause == ""
