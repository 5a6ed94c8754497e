"""What is measured besides retrieval and classification: the space, slices of the data, robustness."""
