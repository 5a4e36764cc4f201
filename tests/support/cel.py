"""
Expressions of CEL, as far as the admission policies for the receiver and for labels use them, without an API
server.

Only the API server itself decides (``tests/security/test_s15_statuses_and_labels.py``). This is for tests of
more inputs than it can be asked about.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

Scope = Mapping[str, Any]
Node = Callable[[Scope], Any]

_TOKEN = re.compile(r"\s*('[^']*'|\d+|\w+|\.\?|&&|\|\||[=!<>]=|[-+!<>()\[\]{}.,:?])")
_MACROS = {"all": all, "exists": any}
_METHODS: dict[str, Callable[..., Any]] = {
    "size": len,
    "startsWith": str.startswith,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "substring": lambda text, start, end: text[start:end],
}


@dataclass(frozen=True)
class _Optional:
    """A value that may be absent: ``a.?b``."""

    values: tuple[Any, ...]


class Variables(Mapping[str, Any]):
    """Variables of a policy; each is evaluated when it is used."""

    def __init__(self, expressions: Mapping[str, str], scope: Scope) -> None:
        self._expressions, self._scope = expressions, scope

    def __getitem__(self, name: str) -> Any:
        return evaluate(self._expressions[name], {**self._scope, "variables": self})

    def __iter__(self) -> Iterator[str]:
        return iter(self._expressions)

    def __len__(self) -> int:
        return len(self._expressions)


def evaluate(expression: str, scope: Scope) -> Any:
    """Return the value of an expression. Raises ``KeyError`` for an absent field, ``ValueError`` for another
    language."""
    return _parsed(expression)(scope)


@cache
def _parsed(expression: str) -> Node:
    parser = _Parser(_tokens(expression))
    node = parser.choice()
    if parser.rest:
        raise ValueError(f"unexpected {parser.rest[0]!r}")
    return node


def _tokens(text: str) -> list[str]:
    tokens, place = [], 0
    while (found := _TOKEN.match(text, place)) is not None:
        tokens.append(found.group(1))
        place = found.end()
    if text[place:].strip():
        raise ValueError(f"not understood: {text[place:]!r}")
    return tokens


class _Parser:
    """Reads tokens from the left; each method returns a function of the scope."""

    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens

    def choice(self) -> Node:
        condition = self._any_of()
        if not self._skip("?"):
            return condition
        first = self.choice()
        self._need(":")
        second = self.choice()
        return lambda scope: first(scope) if condition(scope) else second(scope)

    def _any_of(self) -> Node:
        parts = [self._all_of()]
        while self._skip("||"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else lambda scope: any(each(scope) for each in parts)

    def _all_of(self) -> Node:
        parts = [self._comparison()]
        while self._skip("&&"):
            parts.append(self._comparison())
        return parts[0] if len(parts) == 1 else lambda scope: all(each(scope) for each in parts)

    def _comparison(self) -> Node:
        left = self._sum()
        compare: dict[str, Callable[[Any, Any], Any]] = {
            "==": lambda a, b: a == b,
            "!=": lambda a, b: a != b,
            ">=": lambda a, b: a >= b,
            "<=": lambda a, b: a <= b,
            ">": lambda a, b: a > b,
            "in": lambda a, b: a in b,
        }
        if not self.rest or self.rest[0] not in compare:
            return left
        operation, right = compare[self.rest.pop(0)], self._sum()
        return lambda scope: operation(left(scope), right(scope))

    def _sum(self) -> Node:
        parts = [self._unary()]
        while self._skip("+"):
            parts.append(self._unary())
        return parts[0] if len(parts) == 1 else lambda scope: [x for each in parts for x in each(scope)]

    def _unary(self) -> Node:
        if self._skip("!"):
            inner = self._unary()
            return lambda scope: not inner(scope)
        return self._member(self._primary())

    def _primary(self) -> Node:
        token = self.rest.pop(0)
        if token == "(":
            inner = self.choice()
            self._need(")")
            return inner
        if token == "[":
            items = self._arguments("]")
            return lambda scope: [each(scope) for each in items]
        if token == "{":
            return self._map()
        if token[0] == "'":
            return lambda scope: token[1:-1]
        if token.isdigit():
            return lambda scope: int(token)
        if token == "has":
            self._need("(")
            field = self._optional_of(self.choice())
            self._need(")")
            return field
        if token == "dyn":
            self._need("(")
            inner = self.choice()
            self._need(")")
            return inner
        if token == "null":
            return lambda scope: None
        if token == "optional":
            for each in (".", "none", "(", ")"):
                self._need(each)
            return lambda scope: _Optional(())
        return lambda scope: scope[token]

    def _map(self) -> Node:
        items = []
        while not self._skip("}"):
            key = self._sum()
            self._need(":")
            items.append((key, self.choice()))
            self._skip(",")
        return lambda scope: {key(scope): value(scope) for key, value in items}

    @staticmethod
    def _optional_of(field: Node) -> Node:
        def has(scope: Scope) -> bool:
            try:
                field(scope)
            except KeyError:
                return False
            return True

        return has

    def _member(self, value: Node) -> Node:
        while self.rest and self.rest[0] in (".", ".?", "["):
            kind = self.rest.pop(0)
            if kind == "[":
                index = _optional_index if self._skip("?") else _index
                value = index(value, self.choice())
                self._need("]")
                continue
            name = self.rest.pop(0)
            if self._skip("("):
                value = self._call(value, name)
            else:
                value = _optional_field(value, name) if kind == ".?" else _field(value, name)
        return value

    def _call(self, value: Node, name: str) -> Node:
        if name in _MACROS:
            variable, macro = self.rest.pop(0), _MACROS[name]
            self._need(",")
            body = self.choice()
            self._need(")")
            return lambda scope: macro(bool(body({**scope, variable: each})) for each in value(scope))
        if name == "filter":
            variable = self.rest.pop(0)
            self._need(",")
            chosen = self.choice()
            self._need(")")
            return lambda scope: [each for each in value(scope) if chosen({**scope, variable: each})]
        if name in _METHODS:
            method, arguments = _METHODS[name], self._arguments(")")
            return lambda scope: method(value(scope), *(each(scope) for each in arguments))
        if name != "orValue":
            raise ValueError(f"unknown function {name!r}")
        (default,) = self._arguments(")")

        def or_value(scope: Scope) -> Any:
            found = value(scope)
            return found.values[0] if found.values else default(scope)

        return or_value

    def _arguments(self, end: str) -> list[Node]:
        found = []
        while not self._skip(end):
            found.append(self.choice())
            self._skip(",")
        return found

    def _skip(self, token: str) -> bool:
        is_next = bool(self.rest) and self.rest[0] == token
        if is_next:
            self.rest.pop(0)
        return is_next

    def _need(self, token: str) -> None:
        if not self._skip(token):
            raise ValueError(f"{token!r} is missing before {self.rest[:3]}")


def _index(value: Node, key: Node) -> Node:
    return lambda scope: value(scope)[key(scope)]


def _field(value: Node, name: str) -> Node:
    return lambda scope: value(scope)[name]


def _optional_field(value: Node, name: str) -> Node:
    return _optional_index(value, lambda scope: name)


def _optional_index(value: Node, key: Node) -> Node:
    def field(scope: Scope) -> _Optional:
        found, name = value(scope), key(scope)
        if isinstance(found, _Optional):
            found = found.values[0] if found.values else {}
        return _Optional((found[name],) if name in found else ())

    return field
