"""Building an index: plan, sample, train, fill, tune."""
