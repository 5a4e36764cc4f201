"""
Writes what the chart has from elsewhere: ``python docs/tools/generate_chart.py`` (``make chart``).

- ``README.md`` from ``values.yaml``: a comment that begins with ``# --`` describes the value under it (the
  way of helm-docs);
- in ``values.schema.json`` the settings from their types, and the alerts from ``files/alerts.yaml``;
- ``files/crds/`` from ``crds/``.

A unit test holds all of them against their sources, so they can't drift apart.
"""

import json
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import yaml

from counterfoil.durations import PATTERN, Duration
from counterfoil.settings import (
    CommonSettings,
    ConsoleSettings,
    ControllerSettings,
    PagesSettings,
    ReceiverSettings,
    describe_settings,
)

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "counterfoil"

SETTINGS = {
    "everySettings": CommonSettings,
    "receiverSettings": ReceiverSettings,
    "pagesSettings": PagesSettings,
    "consoleSettings": ConsoleSettings,
    "controllerSettings": ControllerSettings,
}
MADE_BY_THE_CHART = frozenset(
    {
        "namespace",
        "namespaces_file",
        "listen",
        "private_listen",
        "sealing_keys",
        "manifest_key",
        "node_addresses",
        "shards",
        "event_quota",
        "identity",
    }
)
"""Settings that are no values, because the chart's own objects decide them."""


def decided_by_the_chart(kind: type[CommonSettings]) -> frozenset[str]:
    """Return the settings of a process that are no values. The console has a value for its menu of
    namespaces."""
    return MADE_BY_THE_CHART if kind is ConsoleSettings else MADE_BY_THE_CHART | {"namespaces"}


HEAD = """# Chart of Counterfoil

{description}

```console
$ helm install counterfoil charts/counterfoil --namespace contracts --create-namespace \\
    --set image.repository=YOUR-REGISTRY/counterfoil
```

How to go on is in [docs/chart.md](../../docs/chart.md). This page is written by `make chart` from
`values.yaml`.

Chart {version}, Counterfoil {appVersion}, Kubernetes {kubeVersion}.

## Values

| Value | Default | |
|---|---|---|
"""


def files() -> dict[Path, Callable[[], str]]:
    """Return every file that this writes, with the function that returns its content."""
    return {
        CHART / "README.md": readme,
        CHART / "values.schema.json": schema,
        **{
            CHART / "files" / "crds" / crd.name: partial(crd.read_text, encoding="utf-8")
            for crd in sorted((REPOSITORY / "crds").glob("*.yaml"))
        },
    }


# -- README.md -----------------------------------------------------------------------------------------------


class DescribedValue(NamedTuple):
    """A value with what its comment says."""

    path: str
    text: str
    default: Any


def readme() -> str:
    """Return the page."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    rows = [f"| `{each.path}` | {_cell(each.default)} | {each.text} |" for each in described()]
    return HEAD.format(**chart) + "\n".join(rows) + "\n"


def described() -> Iterator[DescribedValue]:
    """Go through the values that have a description, in the order of the file."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    inside: list[tuple[int, str]] = []
    said: str | None = None
    for line in text.splitlines():
        if (comment := re.fullmatch(r" *# -- (.*)", line)) is not None:
            said = comment[1]
        elif (entry := re.match(r"( *)([A-Za-z][A-Za-z0-9]*):", line)) is not None:
            depth = len(entry[1])
            inside = [*(each for each in inside if each[0] < depth), (depth, entry[2])]
            if said is not None:
                keys = [name for _, name in inside]
                yield DescribedValue(".".join(keys), said, _value(values, keys))
            said = None


def _value(values: Any, keys: list[str]) -> Any:
    for key in keys:
        values = values[key]
    return values


def _cell(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


# -- values.schema.json --------------------------------------------------------------------------------------


def schema() -> str:
    """Return the schema as it is, with the settings and the alerts as they are."""
    stored = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    stored["$defs"] |= {name: _settings(kind) for name, kind in SETTINGS.items()}
    stored["$defs"]["alerts"] = _alerts()
    return json.dumps(stored, indent=2) + "\n"


def _alerts() -> dict[str, Any]:
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    kinds = {each["alert"]: "alertAbove" if has_threshold(each["expr"]) else "alert" for each in alerts}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {"$ref": f"#/$defs/{kind}"} for name, kind in kinds.items()},
    }


def has_threshold(expression: str) -> bool:
    """
    Whether the value ``threshold`` may replace the number with which an alert compares.

    It does if one number above 0 follows ``>``, or only zeros do. The template replaces these numbers. An
    alert that another comparison with 0 excludes (``unless``) has none.
    """
    numbers = [float(each) for each in re.findall(r">=? ([0-9.]+)", expression)]
    above = [each for each in numbers if each]
    return len(above) == 1 or (bool(numbers) and not above and "unless sum by" not in expression)


def _settings(kind: type[CommonSettings]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            camel(each.name): {"description": each.text, **_type(hints[each.name], each.at_least)}
            for each in describe_settings(kind)
            if each.name not in decided_by_the_chart(kind)
        },
    }


def camel(name: str) -> str:
    """Return the name of the value for the name of a setting."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _type(hint: Any, at_least: float | None) -> dict[str, Any]:
    """Return what a value of this type looks like in JSON, with its minimum."""
    kinds = [each for each in get_args(hint) or (hint,) if each is not type(None)]
    kind = kinds[0]
    if issubclass(kind, StrEnum):
        return {"enum": [each.value for each in kind]}
    if kind is Duration:
        return {"type": "string", "pattern": PATTERN if at_least is None else minimum_pattern(int(at_least))}
    if kind is bool:
        return {"type": "boolean"}
    if kind is int:
        return {"type": "integer", "minimum": at_least}
    if kind is float:
        return {"type": "number", "minimum": at_least}
    return {"type": "string"}


def minimum_pattern(seconds: int) -> str:
    """
    Return the pattern of the durations of at least this number of seconds (1 or more).

    It refuses each shorter duration in one unit that is not larger than the minimum, and a zero in any units.
    A pattern cannot add or multiply: several units and fractions of a larger unit are left to the process.
    """
    number = r"[0-9]+(\.[0-9]+)?"
    above_zero = r"([0-9]*[1-9][0-9]*(\.[0-9]+)?|0+\.[0-9]*[1-9][0-9]*)"
    part, part_above_zero = f"{number}(ms|s|m|h)", f"{above_zero}(ms|s|m|h)"
    parts = [f"({part})+{part_above_zero}({part})*", f"{part_above_zero}({part})+"]
    for unit, milliseconds in (("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)):
        least = seconds * 1000 // milliseconds
        parts.append(f"{_number_pattern(least) if least else above_zero}{unit}")
    return f"^({'|'.join(parts)})$"


def _number_pattern(least: int) -> str:
    """Return the pattern of a decimal number of at least a whole number of one digit and zeros."""
    first, zeros = str(least)[0], len(str(least)) - 1
    if least != int(first) * 10**zeros:
        raise ValueError(f"{least} is not a digit with zeros")
    longer = rf"[1-9][0-9]{{{zeros + 1},}}"
    whole = rf"[1-9][0-9]{{{zeros},}}" if first == "1" else rf"([{first}-9][0-9]{{{zeros}}}|{longer})"
    return rf"0*{whole}(\.[0-9]+)?"


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content(), encoding="utf-8")
