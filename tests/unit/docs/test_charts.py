"""The charts of docs/performance.md show what verification/bench/RESULTS.md says."""

import re
from xml.etree import ElementTree

import pytest

from docs.tools import generate_charts
from docs.tools.generate_charts import CHARTS, FOLDER, Bar, Chart, ResultsError, bars, svg

RESULTS = """\
# Results

## Targets

| (b) | rate: 9.99 of the plain script's; target >= 0.9 | met |

## (a) The receiver

| what | per s | of bare |
|---|---|---|
| receiver, new callbacks | 765 | 0.90 |

- without a ratio
- new callbacks, of bare: 0.95 (0.75 to 0.97); target >= 0.95: MISSED
- p99 of new callbacks, of bare: 1.02; target <= 1.2: met
- known callbacks, of new: 2.10; target >= 2.0: met

## (b) The controller

- rate: 0.77 of the plain script's; target >= 0.9: MISSED
- writes to the API server per event, the create included: 4.00 (4.00 to 4.00); target <= 4: met

## (c) Archives

- archive `s3`: 1.22 (0.87 to 1.29) of a plain copy that is read back; target >= 0.9: met; 0.79 of it

## (e) History

| finished events | figure | of that with 0 | measured | target | |
|---|---|---|---|---|---|
| 0 | events per s | 1.00 (1.00 to 1.00) | 20.0 (20.0 to 20.0) |  |  |
| 10,000 | events per s | 0.98 (0.97 to 0.99) | 19.6 (19.4 to 19.8) | >= 0.90 | met |
| 10,000 | memory at rest, MiB | 1.30 (1.20 to 1.40) | 130.0 (120.0 to 140.0) | <= 1.10 | MISSED |

## (f) Shards

| controllers | of one | of ideal | events per s | cores | API server | machine | target | |
|---|---|---|---|---|---|---|---|---|
| 1 | 1.00 (1.00 to 1.00) | 1.00 | 5.1 (5.0 to 5.2) | 0.1 | 0.2 | 0.4 |  |  |
| 2 | 1.92 (1.90 to 1.95) | 0.96 | 9.8 (9.7 to 9.9) | 0.2 | 0.4 | 0.8 | >= 0.8 | met |
| 4 | 2.80 (2.70 to 2.90) | 0.70 | 14.0 (13.9 to 14.1) | 0.3 | 0.6 | 1.4 | >= 0.8 | MISSED |
"""
NAMED = {each.name.removeprefix("bench-"): each._replace(bars=1) for each in CHARTS}


def test_the_charts_are_up_to_date() -> None:
    committed = generate_charts.committed()
    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("bench-*.svg")} == {
        path.name: content for path, content in committed.items()
    }, "run: python docs/tools/generate_charts.py"


def test_the_page_shows_each_chart_with_a_text_in_its_place() -> None:
    page = (generate_charts.ROOT / "docs" / "performance.md").read_text("utf-8")
    shown = dict(re.findall(r"!\[([^\]]+)\]\(drawings/(bench-[a-z]+)\.svg\)", page))
    assert sorted(shown.values()) == sorted(each.name for each in CHARTS)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (
            "receiver",
            [
                Bar("new callbacks, of bare", "", 0.95, 0.75, 0.97, ">=", 0.95, is_met=False),
                Bar("p99 of new callbacks, of bare", "", 1.02, 1.02, 1.02, "<=", 1.2, is_met=True),
                Bar("known callbacks, of new", "", 2.1, 2.1, 2.1, ">=", 2.0, is_met=True),
            ],
        ),
        ("controller", [Bar("events per second", "", 0.77, 0.77, 0.77, ">=", 0.9, is_met=False)]),
        ("archives", [Bar("s3", "", 1.22, 0.87, 1.29, ">=", 0.9, is_met=True)]),
        (
            "history",
            [
                Bar("events per s", "beside 10,000 events", 0.98, 0.97, 0.99, ">=", 0.9, is_met=True),
                Bar("memory at rest, MiB", "beside 10,000 events", 1.3, 1.2, 1.4, "<=", 1.1, is_met=False),
            ],
        ),
        (
            "shards",
            [
                Bar("2 controllers", "", 0.96, 0.96, 0.96, ">=", 0.8, is_met=True),
                Bar("4 controllers", "", 0.7, 0.7, 0.7, ">=", 0.8, is_met=False),
            ],
        ),
    ],
)
def test_ratios_are_read_with_their_spreads_and_targets(name: str, found: list[Bar]) -> None:
    assert bars(NAMED[name], RESULTS) == found


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_results_without_the_lines_of_a_bench_are_an_error_that_names_it(chart: Chart) -> None:
    with pytest.raises(ResultsError, match=re.escape(f"has 0 of at least {chart.bars} ratios")) as raised:
        bars(chart, RESULTS.replace(f"## ({chart.letter}) ", "## (z) "))
    assert f"bench ({chart.letter})" in str(raised.value)


def test_results_with_fewer_ratios_than_a_bench_has_are_an_error() -> None:
    archives = next(each for each in CHARTS if each.name == "bench-archives")
    with pytest.raises(ResultsError, match="has 1 of at least 7 ratios"):
        bars(archives, RESULTS)


def test_a_chart_says_in_words_what_it_draws() -> None:
    root = ElementTree.fromstring(svg(NAMED["history"], bars(NAMED["history"], RESULTS)))
    name = "{http://www.w3.org/2000/svg}"
    told = root.findtext(f"{name}desc") or ""
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "bench-history-title bench-history-desc"
    assert root.findtext(f"{name}title") == NAMED["history"].title
    assert "events per s beside 10,000 events: 0.98 (0.97 to 0.99), target at least 0.9: met" in told
    assert "1.30 (1.20 to 1.40), target at most 1.1: missed" in told


def test_a_bar_its_spread_and_its_target_have_one_scale() -> None:
    bar = Bar("a", "", ratio=0.5, low=0.4, high=0.6, bound=">=", target=1.0, is_met=False)
    drawn = svg(NAMED["receiver"], [bar])
    assert '<rect class="missed" x="270" y="50" width="150.0"' in drawn
    assert '<line class="spread" x1="390.0" x2="450.0"' in drawn
    assert '<line class="target" x1="570.0" x2="570.0"' in drawn
