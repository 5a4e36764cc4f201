"""What browsers send as pairs of name and value: each name once, or nobody can say which one counts."""

import pytest

from webhook import forms
from webhook.console import requests as of_the_console
from webhook.console.limits import ConsoleLimits
from webhook.console.problems import Kind, Trouble
from webhook.pages import requests as of_the_pages
from webhook.pages.limits import PageLimits
from webhook.pages.problems import Trouble as PageTrouble

TWICE = "phase=Failed&age=1h&phase=Succeeded"


def test_each_name_has_its_value() -> None:
    assert forms.once_each("a=1&b=&c=%C3%A4+x", most=3) == {"a": "1", "b": "", "c": "ä x"}


@pytest.mark.parametrize(
    ("text", "fault"), [(TWICE, "given twice"), ("a=%ff", "decode"), ("a=1&b=2&c=3&d=4", "number of fields")]
)
def test_what_can_be_taken_in_more_than_one_way_or_in_none_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        forms.once_each(text, most=3)


def test_console_and_pages_take_no_query_with_a_name_given_twice() -> None:
    with pytest.raises(Trouble) as trouble:
        of_the_console.query(TWICE, ConsoleLimits())
    with pytest.raises(PageTrouble):
        of_the_pages.query(TWICE, PageLimits())
    assert trouble.value.kind is Kind.LINK_BROKEN
