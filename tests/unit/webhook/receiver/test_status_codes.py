"""The HTTP answer to each outcome of a callback."""

import pytest

from counterfoil.metrics import CallbackOutcome
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.status_codes import HTTP_STATUS, CallbackResult, callback_response

LIMITS = ReceiverLimits()


def test_200_is_the_answer_if_the_event_is_stored_or_none_is_wanted_and_else_never() -> None:
    with_200 = {outcome for outcome, status in HTTP_STATUS.items() if status == 200}
    assert with_200 == {CallbackOutcome.NOTED, CallbackOutcome.KNOWN, CallbackOutcome.IGNORED}


@pytest.mark.parametrize("outcome", CallbackOutcome)
def test_each_outcome_has_an_answer_without_a_body_and_each_503_a_time_for_the_retry(
    outcome: CallbackOutcome,
) -> None:
    response = callback_response(CallbackResult(outcome), LIMITS)
    assert response.body is None
    assert ("Retry-After" in response.headers) == (response.status == 503)


def test_the_time_for_the_retry_is_that_of_the_result_in_whole_seconds() -> None:
    limited = CallbackResult(CallbackOutcome.LIMITED, retry_after=1.2)
    assert callback_response(limited, LIMITS).headers["Retry-After"] == "2"
