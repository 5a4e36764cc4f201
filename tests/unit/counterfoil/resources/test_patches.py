"""A merge patch says what changed and nothing else (RFC 7396)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.resources import merge_patch

Json = dict[str, Any]

values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


def applied(target: Any, patch: Any) -> Any:
    """MergePatch of RFC 7396, section 2, word by word."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = applied(merged.get(name), value)
    return merged


@given(objects, objects)
def test_a_patch_turns_the_one_into_the_other(before: Json, after: Json) -> None:
    assert applied(before, merge_patch(before, after)) == after


@given(objects)
def test_equal_objects_need_no_patch(same: Json) -> None:
    assert merge_patch(same, same) == {}


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"phase": "Pending"}, {"phase": "Validating"}, {"phase": "Validating"}),
        ({"phase": "Pending", "reason": "X"}, {"phase": "Pending"}, {"reason": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, {"a": [1, 2, 3]}),
        ({}, {"a": {}}, {"a": {}}),
    ],
)
def test_a_patch_has_only_what_changed(before: Json, after: Json, patch: Json) -> None:
    assert merge_patch(before, after) == patch
