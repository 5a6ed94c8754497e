"""Search results as a page."""
