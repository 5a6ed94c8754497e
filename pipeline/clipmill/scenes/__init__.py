"""The sample data: rendered scenes with captions and labels, deterministic by seed."""
