"""Support for several test modules: builders, fakes, servers and scenes."""
