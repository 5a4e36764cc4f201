"""Decisions about the pages of Senders and Archives. Pure."""
