"""Tests of the demo's output."""
