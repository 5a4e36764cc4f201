"""
Writes the bar charts docs/drawings/bench-*.svg from verification/bench/RESULTS.md:
``python docs/tools/generate_charts.py``.

Each bar is a ratio of one bench with its target as a line. docs/performance.md shows the charts. A unit test
compares them with the results.
"""

import re
import sys
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "verification" / "bench" / "RESULTS.md"
FOLDER: Final = ROOT / "docs" / "drawings"

_FIGURE: Final = r"(?P<ratio>\d+(?:\.\d+)?)(?: \((?P<low>\d+(?:\.\d+)?) to (?P<high>\d+(?:\.\d+)?)\))?"
_TARGET: Final = r"(?P<bound>[<>]=) (?P<target>\d+(?:\.\d+)?)(?:: | \| )(?P<verdict>met|MISSED)"
"""With the verdict of the bench, which knows the ratio before it was rounded."""


class ResultsError(Exception):
    """The results lack the figures of a chart."""


class Chart(NamedTuple):
    """One chart, and the lines of the report that it shows."""

    name: str
    letter: str
    """Of the bench."""
    title: str
    pattern: str
    """Of each line of the report that is a bar. The groups ``label`` and ``second`` are its text."""
    bars: int
    """Least number of bars."""
    label: str = "{label}"
    second: str = ""


class Bar(NamedTuple):
    """One ratio."""

    label: str
    second: str
    """Second line of the label."""
    ratio: float
    low: float
    high: float
    bound: str
    target: float
    is_met: bool

    @property
    def figure(self) -> str:
        """The ratio and its spread as text."""
        spread = f" ({self.low:.2f} to {self.high:.2f})" if self.low != self.high else ""
        return f"{self.ratio:.2f}{spread}"

    @property
    def judgement(self) -> str:
        """The target as text."""
        least = "at least" if self.bound == ">=" else "at most"
        return f"target {least} {self.target:g}: {'met' if self.is_met else 'missed'}"


CHARTS: Final = (
    Chart(
        "bench-receiver",
        "a",
        "The receiver, as ratios to a bare client and to new callbacks",
        rf"- (?P<label>[^:\n]+): {_FIGURE}; target {_TARGET}",
        bars=3,
    ),
    Chart(
        "bench-controller",
        "b",
        "The controller's rate, of that of a plain script without Kubernetes",
        rf"- (?P<label>rate): {_FIGURE} of the plain script's; target {_TARGET}",
        bars=1,
        label="events per second",
    ),
    Chart(
        "bench-archives",
        "c",
        "Rate into each kind of archive, of that of a plain copy that is read back",
        rf"- archive `(?P<label>\w+)`: {_FIGURE} of a plain copy that is read back; target {_TARGET}",
        bars=7,
    ),
    Chart(
        "bench-history",
        "e",
        "A controller beside finished events, of one beside none",
        rf"\| (?P<second>[\d,]+) \| (?P<label>[^|\n]+) \| {_FIGURE} \| [^|\n]+ \| {_TARGET}",
        bars=5,
        second="beside {second} events",
    ),
    Chart(
        "bench-shards",
        "f",
        "Rate of several controllers, of that of one times their number",
        rf"\| (?P<label>\d+) \| [^|\n]+ \| {_FIGURE} \|(?: [^|\n]+ \|){{4}} {_TARGET}",
        bars=2,
        label="{label} controllers",
    ),
)


def committed() -> dict[Path, str]:
    """Return the charts that are in the repository, with their content as it must be. Raises
    ``ResultsError``."""
    results = RESULTS.read_text(encoding="utf-8")
    return {FOLDER / f"{each.name}.svg": svg(each, bars(each, results)) for each in CHARTS}


def bars(chart: Chart, results: str) -> list[Bar]:
    """Return the bars of a chart. Raises ``ResultsError`` if the results lack some."""
    parts = re.split(r"^## ", results, flags=re.MULTILINE)
    section = "".join(each for each in parts if each.startswith(f"({chart.letter}) "))
    found = [
        _bar(chart, each.groupdict()) for each in re.finditer(rf"^{chart.pattern}", section, re.MULTILINE)
    ]
    if len(found) < chart.bars:
        raise ResultsError(
            f"verification/bench/RESULTS.md has {len(found)} of at least {chart.bars} ratios for the chart "
            f"{chart.name}: "
            f"the table or the targets of bench ({chart.letter}) are missing. Run: make bench"
        )
    return found


def _bar(chart: Chart, groups: dict[str, str]) -> Bar:
    label, second = chart.label.format_map(groups), chart.second.format_map(groups)
    ratio, target = float(groups["ratio"]), float(groups["target"])
    low, high = (float(groups[each] or ratio) for each in ("low", "high"))
    return Bar(label, second, ratio, low, high, groups["bound"], target, groups["verdict"] == "met")


# -- The drawing ---------------------------------------------------------------------------------------------

WIDTH, ROW, TOP, BOTTOM = 760, 42, 40, 30
BARS_AT, BARS_WIDTH = 270, 300
FIGURES_AT = BARS_AT + BARS_WIDTH + 16

STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 12px; fill: #57606a }
.ground { fill: #ffffff }
.met { fill: #3b74c9 }
.missed { fill: #c2571a }
.spread { stroke: #1f2328; stroke-width: 1.5 }
.target { stroke: #1f2328; stroke-width: 2; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9da7b3 }
  .ground { fill: #161b22 }
  .met { fill: #5a94e8 }
  .missed { fill: #e0803f }
  .spread, .target { stroke: #e6edf3 }
}"""
"""It has its own ground, so that it is readable also if the page is light and the system is dark."""


def svg(chart: Chart, shown: list[Bar]) -> str:
    """Return the drawing of a chart."""
    height = TOP + ROW * len(shown) + BOTTOM
    scale = BARS_WIDTH / max(value for each in shown for value in (each.high, each.target, 1.0))
    told = "; ".join(
        f"{each.label} {each.second}".strip() + f": {each.figure}, {each.judgement}" for each in shown
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="{chart.name}-title {chart.name}-desc">',
        f'<title id="{chart.name}-title">{escape(chart.title)}</title>',
        f'<desc id="{chart.name}-desc">{escape(told)}.</desc>',
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="12" y="26">{escape(chart.title)}</text>',
    ]
    for number, each in enumerate(shown):
        lines += _row(each, TOP + ROW * number, scale)
    legend = "Bar: median of the rounds. Thin line: lowest and highest round. Dashed line: target."
    lines.append(f'<text class="small" x="12" y="{height - 10}">{legend}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _row(bar: Bar, top: int, scale: float) -> list[str]:
    middle, kind = top + ROW / 2, "met" if bar.is_met else "missed"
    low, high, target = (BARS_AT + value * scale for value in (bar.low, bar.high, bar.target))
    label = f'text-anchor="end" x="{BARS_AT - 10}"'
    lines = [f'<text {label} y="{middle - 2 if bar.second else middle + 4:g}">{escape(bar.label)}</text>']
    if bar.second:
        lines.append(f'<text class="small" {label} y="{middle + 13:g}">{escape(bar.second)}</text>')
    size = f'width="{bar.ratio * scale:.1f}" height="{ROW - 20}"'
    lines.append(f'<rect class="{kind}" x="{BARS_AT}" y="{top + 10}" {size}/>')
    if bar.low != bar.high:
        lines.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>')
    return [
        *lines,
        f'<line class="target" x1="{target:.1f}" x2="{target:.1f}" y1="{top}" y2="{top + ROW}"/>',
        f'<text x="{FIGURES_AT}" y="{middle - 2:g}">{bar.figure}</text>',
        f'<text class="small" x="{FIGURES_AT}" y="{middle + 13:g}">{bar.judgement}</text>',
    ]


def main() -> None:
    """Write the charts."""
    try:
        charts = committed()
    except ResultsError as error:
        sys.exit(str(error))
    for path, content in charts.items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
