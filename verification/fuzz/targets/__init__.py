"""The targets, one module each: an entry point of the product that reads bytes of others."""
