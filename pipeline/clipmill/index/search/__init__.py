"""Searching an index: open, select, search, re-rank."""
