"""
JSON schemas of every kind that an API server knows, as kubeconform reads them, made from what the server
publishes.

Kubernetes' OpenAPI (version 2) is nearly JSON Schema: types that JSON writes in two ways are said here, and
objects get no more fields than they have. Nothing is fetched from elsewhere, so the kinds of others are as
strict as its own.

The file of a kind has only the definitions that its own refers to: kubeconform compiles all definitions of a
file, for each kind again, and with those of all kinds that took three seconds of CPU for one chart.
"""

import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from sandbox.controlplane.kubectl import Kubectl

LOCATION = "{{ .ResourceKind }}_{{ .Group }}_{{ .ResourceAPIVersion }}.json"
"""Argument of kubeconform after the folder: the name of the file for a kind (lower case)."""

INT_OR_STRING: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}
REFERENCE = "#/definitions/"
"""Begin of a reference from one definition to another."""


async def write_schemas(kubectl: Kubectl, folder: Path) -> None:
    """Write a file for each kind. Raises KubectlError when the server does not answer."""
    published = json.loads(await kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    definitions = {name: INT_OR_STRING.get(name) or _closed(each) for name, each in published.items()}
    for name, each in published.items():
        for kind in each.get("x-kubernetes-group-version-kind", ()):
            # To kubeconform, the group of what has none is its version.
            group = kind["group"] or kind["version"]
            file = f"{kind['kind'].lower()}_{group}_{kind['version']}.json"
            (folder / file).write_text(json.dumps(_schema(name, definitions)), encoding="utf-8")


def _schema(name: str, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of one definition, with all those that it needs."""
    needed = {each: definitions[each] for each in _reachable(name, definitions)}
    return {"$ref": f"{REFERENCE}{name}", "definitions": needed}


def _reachable(name: str, definitions: Mapping[str, Any]) -> Set[str]:
    """Return the definition, and all to which it refers, directly or not."""
    found, left = set[str](), {name}
    while left:
        found |= left
        left = {other for each in left for other in _references(definitions[each])} - found
    return found


def _references(schema: Any) -> Iterator[str]:
    """Go through the names of the definitions to which a schema refers."""
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)
    elif isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.removeprefix(REFERENCE)
        for each in schema.values():
            yield from _references(each)


def _closed(schema: Any) -> Any:
    """Return the schema with no more properties than it names."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(each) for key, each in schema.items()}
    fields = schema.get("properties")
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(fields, dict) and schema.get("type") == "object" and not is_open:
        closed["additionalProperties"] = False
    return closed
