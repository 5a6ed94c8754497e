"""The one lifecycle that every writer of a dataset goes through."""
