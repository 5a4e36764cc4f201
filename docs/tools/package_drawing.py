"""
The drawing of the product's packages: who imports whom, in the layers of the import rules.

The rows are the layers that ``pyproject.toml`` orders, so a new package appears without a change here. The
arrows are the imports of the code. An arrow that follows from others is left out: if a imports b and c, and b
imports c, the drawing has no arrow from a to c. ``generate_drawings`` writes the file.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PRODUCT = ("controller", "webhook", "counterfoil")
SHARED = "counterfoil"
"""The package that the other two import. They do not import each other."""

Layers = Sequence[Sequence[str]]
Arrow = tuple[str, str]

_HEAD = """\
// Written by `python docs/tools/generate_drawings.py` from pyproject.toml and the imports.
digraph packages {
  rankdir=TB; fontname="Arimo"; node [shape=box fontname="Arimo" fontsize=11]; edge [arrowsize=0.6];
  compound=true; ranksep=0.35; nodesep=0.15;
"""


def dot(root: Path = ROOT) -> str:
    """Return the drawing of the product."""
    orders = layers_of((root / "pyproject.toml").read_text(encoding="utf-8"))
    arrows = necessary(imports(PRODUCT))
    parts = [_HEAD]
    for package in PRODUCT:
        inside = [each for each in arrows if {_top(end) for end in each} == {package}]
        parts.append(_cluster(root, package, orders[package], inside))
    bottom, top = SHARED, orders[SHARED][0][0]
    for package in PRODUCT:
        if package != SHARED:
            lowest = orders[package][-1][0]
            parts.append(
                f'  "{package}.{lowest}" -> "{bottom}.{top}" '
                f"[ltail=cluster_{package} lhead=cluster_{bottom} penwidth=2];\n"
            )
    return "".join([*parts, "}\n"])


def layers_of(configuration: str) -> Mapping[str, Layers]:
    """Return the layers of each package that has an order, from the top to the bottom."""
    contracts = tomllib.loads(configuration)["tool"]["importlinter"]["contracts"]
    return {
        package: [[name.strip() for name in layer.split("|")] for layer in each["layers"]]
        for each in contracts
        for package in each.get("containers", ())
    }


def imports(packages: Iterable[str]) -> frozenset[Arrow]:
    """Return which parts of the packages import which other ones."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    found = {
        (_part(importer), _part(imported))
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    }
    return frozenset((one, other) for one, other in found if one != other and "." in one and "." in other)


def necessary(arrows: Iterable[Arrow]) -> Sequence[Arrow]:
    """Return the arrows without those that follow from others, in the order of their names."""
    next_ones: dict[str, set[str]] = {}
    for one, other in arrows:
        next_ones.setdefault(one, set()).add(other)

    def reached(begin: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(begin)
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += next_ones.get(each, ())
        return found

    return [
        (one, other)
        for one, others in sorted(next_ones.items())
        for other in sorted(others)
        if other not in reached(others - {other})
    ]


def _cluster(root: Path, package: str, order: Layers, arrows: Iterable[Arrow]) -> str:
    lines = [f'  subgraph cluster_{package} {{ label="{package}/";']
    for layer in order:
        boxes = " ".join(f'"{package}.{name}" [label="{_label(root, package, name)}"];' for name in layer)
        lines.append(f"    {{ rank=same; {boxes} }}")
    lines += [f'    "{above[0]}" -> "{below[0]}" [style=invis];' for above, below in _rows(package, order)]
    lines += [f'    "{one}" -> "{other}";' for one, other in arrows]
    return "\n".join([*lines, "  }\n"])


def _rows(package: str, order: Layers) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    return pairwise([[f"{package}.{name}" for name in layer] for layer in order])


def _label(root: Path, package: str, name: str) -> str:
    return f"{name}/" if (root / package / name).is_dir() else f"{name}.py"


def _part(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _top(module: str) -> str:
    return module.partition(".")[0]
