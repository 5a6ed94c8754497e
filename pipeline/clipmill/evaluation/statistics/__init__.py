"""Uncertainty: intervals by resampling images, tests with many slices."""
