"""The archive kinds: one module per kind, and what several of them share."""
