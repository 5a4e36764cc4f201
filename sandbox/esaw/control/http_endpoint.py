"""
The control surface over HTTP: `POST /_control/<method>` with the arguments as a JSON object.

Each method of Control is served under its name; its signature checks the arguments. It is
for tests and demos on one machine, so it asks for no password.
"""

import inspect
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from sandbox.esaw.control.api import Control

METHODS = tuple(
    name for name, _ in inspect.getmembers(Control, inspect.isfunction) if not name.startswith("_")
)


def routes(control: Control) -> list[web.RouteDef]:
    """The routes of the surface of this control."""

    async def serve(request: web.Request) -> web.Response:
        name = request.match_info["method"]
        if name not in METHODS:
            return _json({"error": f"There is no {name}; there are {', '.join(METHODS)}."}, status=404)
        try:
            arguments = _decode(getattr(Control, name), await request.read() or b"{}")
            outcome = getattr(control, name)(**arguments)
            return _json(await outcome if inspect.isawaitable(outcome) else outcome)
        except (ValueError, msgspec.ValidationError) as exc:
            return _json({"error": str(exc)}, status=400)

    return [web.post("/_control/{method}", serve)]


def _decode(method: Callable[..., Any], body: bytes) -> dict[str, Any]:
    given = msgspec.json.decode(body, type=_arguments_of(method))
    values = {field: getattr(given, field) for field in given.__struct_fields__}
    return {field: value for field, value in values.items() if value is not UNSET}


@cache
def _arguments_of(method: Callable[..., Any]) -> type[msgspec.Struct]:
    """A Struct with one field per parameter; those with a default may be left out."""
    hints = typing.get_type_hints(method)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        hint = hints[parameter.name]
        if parameter.kind is parameter.VAR_KEYWORD:
            options = typing.get_type_hints(typing.get_args(hint)[0])
            fields += [(name, typing.Union[kind, UnsetType], UNSET) for name, kind in options.items()]  # noqa: UP007
        elif parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, typing.Union[hint, UnsetType], UNSET))  # noqa: UP007
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
