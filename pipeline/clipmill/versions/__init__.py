"""Versions of what `clipmill run` publishes: how each grows from the one before, and which one readers see."""
