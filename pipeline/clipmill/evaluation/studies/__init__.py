"""What is measured beside retrieval and classification: the space, slices of the data, robustness."""
