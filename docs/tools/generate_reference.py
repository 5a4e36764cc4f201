"""
Writes ``docs/reference/resources.md`` from ``crds/*.yaml``: every field, its type, its default, and every
rule.

``python docs/tools/generate_reference.py`` writes the page. With ``--check``, it writes nothing and exits
with 1 if the page differs from the CustomResourceDefinitions. Nothing in the page is written by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from counterfoil import durations

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "resources.md"
ORDER = ("Organization", "Archive", "Sender", "Envelope", "EnvelopeEvent", "Import")
"""Order of the chapters."""
RULES = "x-kubernetes-validations"

INTRODUCTION = """\
<!-- Written by docs/tools/generate_reference.py from crds/*.yaml; edit counterfoil/resources/. -->
# Resources

All kinds are of `counterfoil.dev/v1beta1`, live in a namespace and are in the category `counterfoil`, so
`kubectl get counterfoil` shows all of them. Everything below is also in `kubectl explain`. Durations are
written as in `500ms`, `10s` or `1h30m`, times in RFC 3339 (UTC), sizes in bytes, hashes in lower-case hex.
Secrets and other objects are those of the same namespace.
"""

Schema = dict[str, Any]


class FieldRow(NamedTuple):
    """One field as the table shows it."""

    path: str
    type: str
    default: str
    description: str


def page() -> str:
    """Return the whole page."""
    found = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    found.sort(key=lambda crd: ORDER.index(crd["spec"]["names"]["kind"]))
    return "\n".join([INTRODUCTION, *(chapter(crd["spec"]) for crd in found)])


def chapter(crd: Schema) -> str:
    """Return the chapter on one kind."""
    names = crd["names"]
    (version,) = crd["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    parts = [
        f"## {names['kind']}",
        prose(schema["description"]),
        called(names),
        columns(version),
        selectors(version),
    ]
    for part in ("spec", "status"):
        if part in schema["properties"]:
            inner = schema["properties"][part]
            parts += [f"### {names['kind']} {part}", prose(inner["description"]), table(fields(inner))]
    parts += [f"### {names['kind']} rules", rules_list(schema)]
    return "\n\n".join(part for part in parts if part) + "\n"


def called(names: Schema) -> str:
    """Return the names of the kind in kubectl."""
    known = [names["plural"], names["singular"], *names.get("shortNames", ())]
    return f"kubectl: {', '.join(f'`{name}`' for name in known)}."


def columns(version: Schema) -> str:
    """Return the table of the printer columns."""
    lines = ["| column of `kubectl get` | |", "|---|---|"]
    for column in version["additionalPrinterColumns"]:
        wide = " (`-o wide`)" if column.get("priority") else ""
        lines.append(f"| {column['name'].upper()}{wide} | {prose(column['description'])} |")
    return "\n".join(lines)


def selectors(version: Schema) -> str:
    """Return the sentence on field selectors, or nothing if the kind has none."""
    paths = [f"`{each['jsonPath'].removeprefix('.')}`" for each in version.get("selectableFields", ())]
    return f"Field selectors: {', '.join(paths)}." if paths else ""


def table(rows: Iterator[FieldRow]) -> str:
    """Return the table of fields."""
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    lines += [f"| `{row.path}` | {row.type} | {row.default} | {prose(row.description)} |" for row in rows]
    return "\n".join(lines)


def fields(schema: Schema, above: str = "") -> Iterator[FieldRow]:
    """Yield all fields, each before its parts."""
    for name, inner in schema.get("properties", {}).items():
        path = f"{above}{name}"
        default = "required" if name in schema.get("required", ()) else default_of(inner)
        yield FieldRow(path + suffix(inner), type_of(inner), default, inner["description"])
        yield from fields(content(inner), f"{path}{suffix(inner)}.")


def suffix(schema: Schema) -> str:
    """Return the suffix of a list or a map in a path."""
    if schema["type"] == "array":
        return "[]"
    return "{}" if "additionalProperties" in schema else ""


def content(schema: Schema) -> Schema:
    """Return the schema of the elements of a list or map, or that of the object itself."""
    inner: Schema = schema.get("items") or schema.get("additionalProperties") or schema
    return inner


def type_of(schema: Schema) -> str:
    """Return the type in the words of the page."""
    inner = content(schema)
    if "enum" in inner:
        return ", ".join(f"`{value}`" for value in inner["enum"])
    if inner.get("format") == "date-time":
        return "time"
    if any(durations.PATTERN in rule["rule"] for rule in inner.get(RULES, ())) and inner["type"] == "string":
        return "duration"
    return str(inner["type"])


def default_of(schema: Schema) -> str:
    """Return the default as one would write it in YAML's flow style; empty when there is none to show."""
    value = schema.get("default")
    if value is None or isinstance(value, dict):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def rules_list(schema: Schema) -> str:
    """Return all rules that the API server checks, by the field they are about."""
    return "\n".join(f"- {where}: {prose(message)}" for where, message in rules(schema))


def rules(schema: Schema, above: str = "") -> Iterator[tuple[str, str]]:
    """Go through all rules: the field in code, and the message."""
    for rule in schema.get(RULES, ()):
        yield f"`{above + rule.get('fieldPath', '') or 'metadata.name'}`", rule["message"]
    for name, inner in schema.get("properties", {}).items():
        path = f"{above}.{name}" if above else name
        yield from rules(inner, path + suffix(inner))
        if content(inner) is not inner:
            yield from rules(content(inner), path + suffix(inner))


def prose(text: str) -> str:
    """Make a sentence safe for Markdown: placeholders in code, nothing that reads as HTML or ends a cell."""
    marked = re.sub(r"(?<!`)((?:\{\{[^}]*\}\}/?)+)", r"`\1`", text)
    pieces = re.split(r"(`[^`]*`)", marked.replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces)


def main() -> int:
    """Write the page, or see whether it is up to date."""
    parser = argparse.ArgumentParser(description="Write docs/reference/resources.md from crds/*.yaml.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; end with 1 when the page is not up to date"
    )
    if parser.parse_args().check:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print(
            f"{PAGE.relative_to(ROOT)} is not up to date; run python docs/tools/generate_reference.py",
            file=sys.stderr,
        )
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
