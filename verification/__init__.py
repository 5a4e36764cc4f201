"""Verification beside the tests: fault campaign, fuzzing, formal model, mutation testing, benchmarks."""
