"""Metrics: what a run is worth and what it leaks. Pure functions of scores and truth, called by the referee alone."""
