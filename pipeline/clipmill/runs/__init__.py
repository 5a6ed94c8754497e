"""The run of a file: which stages, in which order, towards which version."""
