"""Texts that people read, by language: one loader, and one TOML file per catalogue and language."""
