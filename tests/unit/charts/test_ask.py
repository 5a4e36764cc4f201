"""The pod of ``helm test``: which namespaces it finds served in the metrics of the controllers."""

import importlib.util
from typing import Any

import pytest

from docs.tools.generate_chart import CHART

SERVED = 'counterfoil_namespace_ready{namespace="unit-a",reason="Serving"} 1.0'
FORBIDDEN = 'counterfoil_namespace_ready{namespace="unit-b",reason="NamespaceForbidden"} 0.0'
OTHER = "# TYPE counterfoil_namespace_ready gauge\ncounterfoil_shards 1.0"


def program() -> Any:
    """Load the program, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("ask", CHART / "files" / "ask.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("pages", "missing"),
    [
        ([f"{OTHER}\n{SERVED}"], {}),
        # A spare controller works nowhere.
        ([OTHER, SERVED], {}),
        ([OTHER], {"unit-a": "no controller works there"}),
        ([], {"unit-a": "no controller works there"}),
        ([SERVED.replace("1.0", "0.0").replace("Serving", "Starting")], {"unit-a": "Starting"}),
        (
            [SERVED.replace("1.0", "0.0").replace("Serving", "NamespaceBroken")],
            {"unit-a": "NamespaceBroken, now or within the last ten minutes"},
        ),
        (
            [SERVED, SERVED.replace("1.0", "0.0").replace("Serving", "NamespaceStuck")],
            {"unit-a": "NamespaceStuck, now or within the last ten minutes"},
        ),
    ],
)
def test_a_namespace_is_served_if_each_controller_that_works_there_can(
    pages: list[str], missing: dict[str, str]
) -> None:
    assert program().not_served(pages, ["unit-a"]) == missing


def test_the_namespace_that_is_not_served_is_named_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask = program()
    ask.PATIENCE = 0.0
    ask.metrics_of_pods = lambda url: [f"{SERVED}\n{FORBIDDEN}"]
    assert ask.main(["controller=http://controllers:9090#unit-a,unit-b"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "namespace unit-a: served, as it should",
        "namespace unit-b: NamespaceForbidden",
    ]


def test_a_controller_that_does_not_answer_serves_none(capsys: pytest.CaptureFixture[str]) -> None:
    ask = program()
    ask.PATIENCE = 0.0
    assert ask.main(["controller=http://127.0.0.1:1#unit-a"]) == 1
    assert "refused" in capsys.readouterr().out
