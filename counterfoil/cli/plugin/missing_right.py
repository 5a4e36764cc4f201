"""The command that gives a right whose lack the API server names in a refusal. The texts about a kind that it
does not have, and about an object that can't be read. Pure."""

import re
import shlex
from collections.abc import Iterable
from typing import Final

from counterfoil import __version__
from counterfoil.kube.errors import ApiError, Unavailable
from counterfoil.resources.base import GROUP, Resource, ResourceInvalid

_READING_VERBS: Final = frozenset({"get", "list", "watch"})

_MISSING_RIGHT = re.compile(
    r'(?:\S+ "(?P<name>[^"]+)" is forbidden: )?'
    r'User "(?P<user>[^"]+)" cannot (?P<verb>[a-z]+) resource "(?P<resource>[^"]+)" in API group '
    r'"(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)'
)


def way_to_right(refusal: str) -> str:
    """
    Return who gives the right that a refusal of the API server names, and by which command.

    It gives no more than the verb that is missing, or the reading role, which shows no Secret. Empty if the
    refusal names no right that the plugin needs.
    """
    lacks = _MISSING_RIGHT.search(refusal)
    if lacks is None or not _is_needed(lacks["group"], lacks["verb"], lacks["resource"]):
        return ""
    if lacks["namespace"] is None:
        return ". Name a namespace with -n."
    kubectl, user = ["kubectl", "-n", lacks["namespace"]], f"--user={lacks['user']}"
    if lacks["verb"] in _READING_VERBS and lacks["resource"] != "secrets":
        bind = [*kubectl, "create", "rolebinding", "counterfoil-view", "--clusterrole=view", user]
        command = shlex.join(bind)
    else:
        kind, _, part = lacks["resource"].partition("/")
        resource = ".".join(filter(None, (kind, lacks["group"]))) + (f"/{part}" if part else "")
        # For an event the next one would be refused again; of Secrets each one counts.
        name = lacks["name"] if kind == "secrets" else None
        role = "-".join(filter(None, ("counterfoil", lacks["verb"], kind, part, name)))
        only = [f"--resource-name={name}"] if name else []
        what = [f"--verb={lacks['verb']}", f"--resource={resource}", *only]
        bind = [*kubectl, "create", "rolebinding", "NAME", f"--role={role}", user]
        command = f"{shlex.join([*kubectl, 'create', 'role', role, *what])} && {shlex.join(bind)}"
    return f". Who administers the cluster can give it by `{command}`."


def unread_text(subject: str, problem: ApiError) -> str:
    """Return what could not be read, why, and by which command somebody gives a right that is missing."""
    return f"{subject}: {problem}{way_to_right(str(problem))}"


def is_undefined(problem: ApiError) -> bool:
    """Whether the API server may not have the kind that was asked for: it has no Status object for that."""
    return isinstance(problem, Unavailable) and problem.status == 404


def undefined_text(kinds: Iterable[type[Resource]]) -> str:
    """Return that the API server does not have these kinds, and what brings them."""
    names = ", ".join(each.KIND for each in kinds)
    return (
        f"the API server has no kind {names}. Apply the CustomResourceDefinitions of this version: `kubectl "
        "apply --server-side -f crds/` in a clone, or an upgrade of the chart"
    )


def unreadable_text(invalid: ResourceInvalid) -> str:
    """Return which field of an object can't be read. It does not tell which version is another one."""
    return (
        f"{invalid}. The plugin ({__version__}), Counterfoil and its CustomResourceDefinitions must be of "
        "the same version. If they are, correct the object"
    )


def _is_needed(group: str, verb: str, resource: str) -> bool:
    """Whether a command of the plugin needs this right."""
    is_read = verb in _READING_VERBS and resource in ("leases", "events", "resourcequotas")
    return group == GROUP or is_read or resource.startswith(("pods", "secrets"))
