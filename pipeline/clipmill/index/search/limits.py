"""Limits of a search, without importing what searches."""

MAX_RESULTS = 100_000
"""Results that can be asked for of one query."""
