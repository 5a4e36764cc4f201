"""Whole situations for tests: several components wired as in production, with what a test asks of them."""
