"""Metrics and protocols. numpy, no Ray."""
