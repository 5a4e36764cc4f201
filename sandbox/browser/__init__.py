"""A real browser for tests, and the script that checks the accessibility of a page."""
