"""Plan, train, fill, tune and search an index. FAISS and numpy, no Ray."""
