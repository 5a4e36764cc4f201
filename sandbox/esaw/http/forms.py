"""Forms: a body or a query as names with one value each; pure."""

from collections.abc import Iterable
from urllib.parse import parse_qsl

FORM = "application/x-www-form-urlencoded"


class InvalidForm(ValueError):
    """Bytes that are no form, or a name that comes twice."""


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form that was sent as a body. Raises FormProblem."""
    if content_type != FORM:
        raise InvalidForm(f"The body must be {FORM}.")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), errors="strict")
    except ValueError as exc:
        raise InvalidForm("The body is no form.") from exc
    return single_valued(fields)


def single_valued(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The fields by name; none may come twice (RFC 6749, 3.1). Raises FormProblem."""
    known: dict[str, str] = {}
    for name, value in fields:
        if name in known:
            raise InvalidForm(f"{name} comes more than once.")
        known[name] = value
    return known
