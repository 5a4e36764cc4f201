"""
S7: a person fills in a form so that the evaluation of `beforeSend.fields[].pattern` takes arbitrarily long.

The test measures the CPU time of this thread, so other work of the machine does not count.
"""

import time

import pytest

from counterfoil.resources.organization import BeforeSendField
from counterfoil.untrusted.patterns import FORM_PATTERNS
from webhook.pages.form_fields import FieldFault, filled_fields
from webhook.pages.limits import PageLimits

MAX_BLOCK_SECONDS = 0.25
LENGTH = PageLimits().value

PATTERNS = ["(a|a)*b", "(a+)+b", "(a*)*b", "([a-z]+)*0", "(.*)*b", "(a?){64}a{64}b"]
"""Each is a valid setting. Python's ``re`` tries 2^n ways through n letters of such a value."""


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_value_of_a_form_makes_a_pattern_expensive(pattern: str) -> None:
    assert FORM_PATTERNS.error(pattern) is None
    field, value = BeforeSendField(name="order", pattern=pattern), "a" * LENGTH
    before = time.thread_time()
    (filled,) = filled_fields([field], {"tag.order": value}, limit=LENGTH)
    assert time.thread_time() - before < MAX_BLOCK_SECONDS
    assert filled.fault is FieldFault.PATTERN
