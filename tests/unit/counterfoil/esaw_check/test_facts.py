"""A check judges an answer of eSAW in the same way whether a member is null or left out (by the facts)."""

from collections.abc import Callable
from typing import Any

import pytest

from counterfoil.esaw_check import assumptions, envelope_assumptions
from counterfoil.resources.organization import OrganizationCheckResult
from sandbox.esaw.facts import read_facts
from tests.support.esaw_variants import ENVELOPE, Path, an_answer, paths, with_null, without
from tests.support.scenes.esaw_check import COMPLETED, OAUTH, an_organization_with_urls, says

FACTS = read_facts()
PAGED = an_organization_with_urls(oauth=OAUTH, beforeSend={"fields": []})

Line = Callable[[Any], OrganizationCheckResult]

LINES: list[tuple[str, str, Line]] = [
    ("whoami", "fields", lambda answer: assumptions.whoami_fields(answer, ENVELOPE)),
    ("find", "one_day", assumptions.find_one_day),
    ("find", "thirty_days", lambda answer: assumptions.find_thirty_days(answer, [answer])),
    ("find", "statuses", lambda answer: assumptions.envelope_statuses([answer], [])),
    ("envelope", "statuses", lambda answer: assumptions.envelope_statuses([], [answer])),
    ("envelope", "status", envelope_assumptions.envelope_status),
    ("files", "files", lambda answer: envelope_assumptions.envelope_files(answer, COMPLETED)),
    ("files", "ids", envelope_assumptions.envelope_null_file_ids),
    (
        "files",
        "trail",
        lambda answer: envelope_assumptions.envelope_audit_trail(
            answer, COMPLETED, an_organization_with_urls()
        ),
    ),
    ("configuration", "metadata", envelope_assumptions.envelope_metadata),
    (
        "configuration",
        "callback",
        lambda answer: envelope_assumptions.callback_url([answer], an_organization_with_urls()),
    ),
    (
        "configuration",
        "port",
        lambda answer: envelope_assumptions.callback_port([answer], an_organization_with_urls()),
    ),
    ("history", "history", envelope_assumptions.envelope_history),
    ("draft", "draft", envelope_assumptions.draft),
    (
        "draft_configuration",
        "callback",
        lambda answer: envelope_assumptions.callback_url([answer], an_organization_with_urls()),
    ),
    (
        "draft_configuration",
        "redirect",
        lambda answer: envelope_assumptions.before_send_redirect(answer, PAGED),
    ),
]
"""The call, a name for the test, and the line of a check that judges the answer."""

NO_ANSWER = ("find", ("Envelopes",))
"""The only member of its answer: without it the answer is of another program."""

CASES = [
    pytest.param(call, line, path, id=f"{name}-{call}.{'.'.join(path)}")
    for call, name, line in LINES
    for path, _ in paths(FACTS, FACTS.calls[call].answer or "")
    if (call, path) != NO_ANSWER
]


@pytest.mark.parametrize(("call", "line", "path"), CASES)
def test_a_member_that_is_null_is_judged_like_one_that_is_left_out(call: str, line: Line, path: Path) -> None:
    answer = an_answer(FACTS, FACTS.calls[call].answer or "")
    if call == "whoami":
        answer["UserId"] = ENVELOPE
    null, absent = line(says(with_null(answer, path))), line(says(without(answer, path)))
    assert null.outcome == absent.outcome
    assert null.message == absent.message
