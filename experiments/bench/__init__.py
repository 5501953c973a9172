"""Benchmarks: every figure is a ratio against a reference timed in turns with it, in the same call."""
