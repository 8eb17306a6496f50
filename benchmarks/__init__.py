"""Benchmarks: one file a figure, each a ratio taken in one run against a stated baseline."""
