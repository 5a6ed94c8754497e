"""Published embeddings to formats of others, each written once: the same command again changes nothing."""
