"""The Python API: one function a stage, and an index to search."""
