"""Targets with a planted defect each, which the harness must find."""
