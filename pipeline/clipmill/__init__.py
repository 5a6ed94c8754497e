"""clipmill: image/caption Parquet to CLIP embeddings, FAISS indices and retrieval reports."""

__version__ = "0.1.0"
