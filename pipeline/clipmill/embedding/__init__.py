"""Embedding: plan, units of rows, their layout, commit, shards, statistics. No Ray."""
