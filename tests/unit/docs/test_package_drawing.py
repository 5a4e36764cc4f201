"""The drawing of the packages: the rows of the import rules, and the arrows that say something."""

import re

from docs.tools import package_drawing
from docs.tools.package_drawing import PRODUCT, layers_of, necessary
from tests.support.repository import ROOT

CONFIGURATION = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
DRAWING = package_drawing.dot()


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    arrows = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("c", "d")}
    assert necessary(arrows) == [("a", "b"), ("b", "c"), ("c", "d")]


def test_packages_that_import_each_other_keep_their_arrows() -> None:
    arrows = [("a", "b"), ("b", "a")]
    assert necessary(arrows) == arrows


def test_each_layer_of_the_import_rules_is_a_row() -> None:
    rows = [
        [each.partition(".")[2] for each in re.findall(r'"([^"]+)" \[label', row)]
        for row in re.findall(r"{ rank=same; (.*) }", DRAWING)
    ]
    orders = layers_of(CONFIGURATION)
    assert rows == [layer for package in PRODUCT for layer in orders[package]]


def test_each_arrow_goes_down() -> None:
    depth = {
        f"{package}.{name}": number
        for package, order in layers_of(CONFIGURATION).items()
        for number, layer in enumerate(order)
        for name in layer
    }
    arrows = re.findall(r'(?m)^    "([^"]+)" -> "([^"]+)";$', DRAWING)
    assert ("controller.reconcile", "controller.outgoing_webhook") in arrows
    assert [each for each in arrows if depth[each[0]] >= depth[each[1]]] == []
