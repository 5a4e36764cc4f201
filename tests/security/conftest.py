"""The attacks use the control plane and the namespaces of the cluster tests."""

from tests.cluster.conftest import namespace, plane

__all__ = ["namespace", "plane"]
