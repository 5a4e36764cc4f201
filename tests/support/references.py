"""The fields of the CustomResourceDefinitions that name an object."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.repository import ROOT

CRDS = sorted((ROOT / "crds").glob("*.yaml"))

OF_OTHERS = (
    "unit-b/dms",
    "../unit-b/dms",
    "unit-b:dms",
    "/dms",
    "..",
    ".",
    "%2e%2e",
    "unit-b\\dms",
    "dms?x",
    "",
)
"""Names that lead elsewhere if a path is made of them."""

OBJECT_NAME = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""The pattern of names of objects."""


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Go through all fields of a schema with their paths."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}.{name}", each
        yield from fields(each, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(each := schema.get(part), dict):
            yield f"{path}[]", each
            yield from fields(each, f"{path}[]")


def spec_and_status(path: Path) -> dict[str, Any]:
    """Return the schema of a resource without the fields of all Kubernetes objects."""
    (version,) = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    return {"properties": {name: properties[name] for name in ("spec", "status") if name in properties}}


def references(path: Path) -> Mapping[str, dict[str, Any]]:
    """Return the schemas of the names in all references that people write, by the paths of the references:
    what is called a reference, and what takes the names of objects."""
    found = dict[str, dict[str, Any]]()
    for where, schema in fields(spec_and_status(path)):
        if where.startswith(".spec"):
            if where.removesuffix("[]").endswith(("Ref", "Refs")) and schema["type"] == "object":
                found[where.removesuffix("[]")] = schema["properties"]["name"]
            elif where.endswith(("Ref", "Refs")) and schema["type"] == "string":
                found[where] = schema
            elif schema.get("pattern") == OBJECT_NAME:
                found[where.removesuffix(".name").removesuffix("[]")] = schema
    return found


def references_of_all() -> Mapping[str, dict[str, Any]]:
    """Return the references of all resources, by plural and path."""
    return {f"{crd.stem}{where}": schema for crd in CRDS for where, schema in references(crd).items()}
