"""What several test modules use: builders, fakes, servers and scenes."""
