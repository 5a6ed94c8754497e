"""Measured results to parts of the document: one file a part."""
