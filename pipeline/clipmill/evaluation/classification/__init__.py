"""What labels allow to be measured: zero-shot, and classifiers trained on frozen embeddings."""
