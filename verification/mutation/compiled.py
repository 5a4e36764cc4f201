"""Compare sources by what Python makes of them, so that no two mutants are the same program."""

from collections.abc import Hashable
from types import CodeType


def compiled_code(source: str) -> Hashable | None:
    """
    Return the code of a source without its places; None if the source is no valid Python.

    It is equal for sources that only differ in their notation, as ``not a is b`` and ``a is not b`` do.
    """
    try:
        return _content(compile(source, "", "exec", dont_inherit=True))
    except SyntaxError:
        return None


def _content(code: CodeType) -> Hashable:
    # The type of a constant counts, because 1 == 1.0 == True.
    constants = tuple(
        _content(each) if isinstance(each, CodeType) else (type(each), repr(each)) for each in code.co_consts
    )
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return code.co_code, code.co_exceptiontable, constants, names, counts
