"""Commands for people: the kubectl plugin, render, verify, reseal and restore."""
