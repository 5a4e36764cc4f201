"""
The control surface over HTTP: `POST /_control/<method>` with the arguments as a JSON object.

Each method of Control is served under its name; its signature checks the arguments. `GET /_control/` lists
the methods. It is for tests and demos on one machine, so it asks for no password.
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
from sandbox.esaw.control.strict_fields import refuse_unknown_fields

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

    async def list_methods(request: web.Request) -> web.Response:
        return _json([_describe(name) for name in METHODS])

    return [
        web.post("/_control/{method}", serve),
        web.get("/_control", list_methods),
        web.get("/_control/", list_methods),
    ]


def _describe(name: str) -> dict[str, Any]:
    """Describe one path for a person; the arguments without a default are required."""
    method = getattr(Control, name)
    fields = msgspec.structs.fields(_arguments_of(method))
    return {
        "path": f"POST /_control/{name}",
        "does": (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " "),
        "required": [each.name for each in fields if each.required],
        "optional": [each.name for each in fields if not each.required],
    }


def _decode(method: Callable[..., Any], body: bytes) -> dict[str, Any]:
    arguments = _arguments_of(method)
    given = msgspec.json.decode(body, type=arguments)
    refuse_unknown_fields(msgspec.json.decode(body), msgspec.inspect.type_info(arguments))
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
    return web.Response(
        body=msgspec.json.encode(body) + b"\n", status=status, content_type="application/json"
    )
