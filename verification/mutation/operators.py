"""
Choose the changes that Cosmic Ray makes, and add three kinds that it does not have.

Cosmic Ray replaces an operator by every other one. Most of these fail at once and would raise the score, so
only the near ones are used (``<`` for ``<=``, ``-`` for ``+``). Added are three: a function returns None, a
call has no keyword argument, a statement that only calls something is left out. Annotations, decorators,
arguments of a class, log calls and the star before keyword-only parameters stay as they are.

Cosmic Ray has no types, so its classes are ``Any`` here.
"""

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS

Position = tuple[int, int]
"""Line from 1, column from 0."""

_NEAR_BINARY = (
    "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul BitOr_BitAnd BitAnd_BitOr LShift_RShift "
    "RShift_LShift"
)
_NEAR_COMPARISONS = (
    "Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Is_IsNot IsNot_Is"
)

NAMES = frozenset(
    (
        *(f"core/ReplaceBinaryOperator_{each}" for each in _NEAR_BINARY.split()),
        *(f"core/ReplaceComparisonOperator_{each}" for each in _NEAR_COMPARISONS.split()),
        *(f"core/ReplaceUnaryOperator_{each}" for each in ("USub_UAdd", "Delete_Not")),
        *(
            f"core/{each}"
            for each in (
                "AddNot",
                "ReplaceTrueWithFalse",
                "ReplaceFalseWithTrue",
                "ReplaceAndWithOr",
                "ReplaceOrWithAnd",
                "ReplaceBreakWithContinue",
                "ReplaceContinueWithBreak",
                "ExceptionReplacer",
                "NumberReplacer",
                "ZeroIterationForLoop",
            )
        ),
        *(f"added/{each}" for each in ("ReturnNone", "DropKeyword", "DropStatement")),
    )
)
"""The operators in use, with the name of their provider."""


class AddedOperator(Operator):  # type: ignore[misc]  # Cosmic Ray has no types
    """A kind of changes that Cosmic Ray does not have."""

    @classmethod
    def examples(cls) -> tuple[()]:
        """Return none; the tests of this package have them."""
        return ()


class ReturnNone(AddedOperator):
    """A function returns None."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Position, Position]]:
        """Yield the places that ``mutate`` changes."""
        # For False there is a change to True.
        if node.type == "return_stmt" and node.children[1].get_code().strip() not in {"None", "False"}:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the changed node."""
        node.children[1:] = [_parsed("return None", "keyword", "None")]
        return node


class DropKeyword(AddedOperator):
    """A call goes without one of its keyword arguments."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Position, Position]]:
        """Yield the places that ``mutate`` changes."""
        if _is_keyword(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the changed node: an empty unpacking keeps the commas around it valid."""
        dropped = _parsed("f(**{})", "argument", "**{}")
        dropped.get_first_leaf().prefix = node.get_first_leaf().prefix
        return dropped


class DropStatement(AddedOperator):
    """A statement that only calls something is left out."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Position, Position]]:
        """Yield the places that ``mutate`` changes."""
        if node.type == "simple_stmt" and _is_call(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the changed node."""
        left_out = _parsed("pass\n", "keyword", "pass")
        left_out.prefix = node.get_first_leaf().prefix
        node.children[0] = left_out
        return node


class AddedOperators:
    """The operators of this module, as Cosmic Ray looks them up."""

    _by_name = {each.__name__: each for each in (ReturnNone, DropKeyword, DropStatement)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __getitem__(self, name: str) -> Any:
        return self._by_name[name]


def register() -> None:
    """Let Cosmic Ray find the operators of this module."""
    OPERATOR_PROVIDERS["added"] = AddedOperators()


def quiet_places(source: str) -> list[tuple[Position, Position]]:
    """Return start and end of everything in a module that stays as it is (see the module's docstring)."""
    return [(node.start_pos, node.end_pos) for node in ast_nodes(parso.parse(source)) if _is_quiet(node)]


def _parsed(text: str, kind: str, code: str) -> Any:
    """Return the node of this kind and code in a text."""
    return next(
        each for each in ast_nodes(parso.parse(text)) if each.type == kind and each.get_code().strip() == code
    )


def _is_quiet(node: Any) -> bool:
    if node.type in {"decorator", "tfpdef"}:
        return True
    parent = node.parent
    if parent is not None and parent.type == "annassign":
        # Of ``name: type = value`` the type.
        return parent.children[1] is node
    if parent is not None and parent.type == "funcdef":
        return parent.annotation is node
    if parent is not None and parent.type == "classdef":
        return parent.get_super_arglist() is node
    if node.type == "operator" and parent.type in {"parameters", "lambdef"}:
        # Before keyword-only parameters, a star is no multiplication.
        return True
    return bool(node.type == "simple_stmt" and node.get_code(include_prefix=False).startswith("_log."))


def _is_keyword(node: Any) -> bool:
    return bool(node.type == "argument" and len(node.children) == 3 and node.children[1] == "=")


def _is_call(node: Any) -> bool:
    if node.type == "atom_expr" and node.children[0] == "await":
        return _is_call_trailer(node.children[-1])
    return bool(node.type in {"atom_expr", "power"} and _is_call_trailer(node.children[-1]))


def _is_call_trailer(node: Any) -> bool:
    return bool(node.type == "trailer" and node.children[0] == "(")
