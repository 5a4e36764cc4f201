"""Sender keys, Secrets and archive backends: opened once, shared, closed."""
