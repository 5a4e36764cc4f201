"""Mutation testing: change the product one place at a time, and count how often its unit tests fail."""
