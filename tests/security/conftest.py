"""The attacks use the control plane and the namespaces of the cluster tests."""

from tests.cluster.conftest import pytest_configure

__all__ = ["pytest_configure"]
