"""Two sources are one program if Python makes the same of them."""

import pytest

from verification.mutation.compiled import compiled_code


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("if not a is b: c()", "if a is not b: c()"),
        ("if not not a: b()", "if a: b()"),
        ("def f():\n    return 1 + x", "def f():\n\n    # why\n    return 1+x"),
        ("lambda: 'a' 'b'", "lambda: 'ab'"),
    ],
)
def test_sources_that_only_differ_in_their_notation_are_equal(source: str, other: str) -> None:
    assert compiled_code(source) == compiled_code(other) is not None


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("a = 1", "a = True"),
        ("a = 0.0", "a = -0.0"),
        ("def f(): return 1", "def f(): return 2"),
        ("f(a=1)", "f(b=1)"),
        ("def f(a, b): g(a)", "def f(b, a): g(a)"),
        ("def f(a, *, b): ...", "def f(a, /, b): ..."),
        ("try: f()\nexcept A: pass", "try: f()\nexcept B: pass"),
        ("lambda: x", "lambda: y"),
    ],
)
def test_sources_of_different_behaviour_differ(source: str, other: str) -> None:
    assert compiled_code(source) != compiled_code(other)


@pytest.mark.parametrize("source", ["if not a := b(): pass", "{*a, **b}", "raise from"])
def test_what_is_no_python_has_no_code(source: str) -> None:
    assert compiled_code(source) is None
