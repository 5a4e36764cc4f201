"""The CRDs of a soak test: those of the product, without the lower bound of ``spec.ttl``."""

from pathlib import Path

from sandbox.controlplane.install_crds import CRDS
from verification.chaos.soak.run import write_crds


def test_only_the_lower_bound_of_the_time_to_live_differs(tmp_path: Path) -> None:
    write_crds(tmp_path)

    for path in CRDS.glob("*.yaml"):
        before = path.read_text(encoding="utf-8").splitlines()
        after = (tmp_path / path.name).read_text(encoding="utf-8").splitlines()
        changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert len(changed) == (4 if path.name == "organizations.yaml" else 0)
        assert all("duration('72h')" in old and "duration('1s')" in new for old, new in changed)
