"""The bounds of JSON: the largest valid answers are far below them."""

import json
import sys

import pytest

from counterfoil.untrusted.json_bounds import MAX_CONTAINERS, MAX_SEPARATORS, has_too_many_values, text_memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", False),
        (b"[" * MAX_CONTAINERS, False),
        (b"[" * MAX_CONTAINERS + b"{", True),
        (b"," * MAX_SEPARATORS, False),
        (b"," * (MAX_SEPARATORS + 1), True),
    ],
)
def test_lists_objects_and_commas_are_counted(text: bytes, expected: bool) -> None:
    assert has_too_many_values(text) is expected


def test_a_search_with_5000_envelopes_and_their_metadata_is_within_the_bounds() -> None:
    metadata = json.dumps({f"field{number}": f"value {number}" for number in range(40)})
    envelope = {"Id": "0f9c1c2e-1111-4222-8333-444455556666", "Name": "Contract", "MetaData": metadata}
    text = json.dumps({"Envelopes": [{**envelope, "Sender": {"Email": "a@b.example"}}] * 5000}).encode()
    assert not has_too_many_values(text)


@pytest.mark.parametrize("value", [{"key": "text"}, [("key", {"text": None})], {"key": {"text": 1}}])
def test_the_memory_of_texts_includes_keys_and_values_at_any_depth(value: object) -> None:
    assert text_memory(value) == sys.getsizeof("key") + sys.getsizeof("text")
