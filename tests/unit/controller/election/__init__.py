"""Tests of controller.election."""
