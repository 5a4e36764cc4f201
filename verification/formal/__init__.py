"""The formal model of one envelope, and the checks of it."""
