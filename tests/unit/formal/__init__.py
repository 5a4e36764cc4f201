"""The formal model."""
