"""The package of the Kubernetes client imports every part, until ``import_parts_lazily``."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import controller, kopf, counterfoil.kube.config
print(*sorted({"kubernetes.config", "kubernetes.aio.dynamic", "requests"} & set(sys.modules)))
import kubernetes
print(kubernetes.aio.dynamic.__name__, kubernetes.config.__name__, hasattr(kubernetes, "no_such_part"))
"""


@pytest.mark.parametrize("package", ["kubernetes", "kubernetes.aio"])
def test_the_package_still_imports_its_parts(package: str) -> None:
    # No imports: counterfoil._upstream.kubernetes_package can go.
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    statements = ast.parse(Path(spec.origin).read_text("utf-8")).body
    assert len([each for each in statements if isinstance(each, ast.Import | ast.ImportFrom)]) > 5


def test_no_part_is_imported_before_it_is_used_and_each_is_there_when_it_is_asked_for() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["", "kubernetes.aio.dynamic kubernetes.config False"]
