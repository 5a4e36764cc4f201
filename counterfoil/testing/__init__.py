"""Test suites that the wheel ships, for this project's archive kinds and for those of third parties."""
