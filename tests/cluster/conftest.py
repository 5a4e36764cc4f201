"""The cluster tests have one control plane."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Have the fixtures of the control plane."""
    config.pluginmanager.import_plugin("tests.support.control_plane")
