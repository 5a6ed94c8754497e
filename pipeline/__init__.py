"""clipmill's library: one room a stage of the data's way, from source Parquet to report."""

from pipeline.processor import name_kernels

__version__ = "0.1.0"

name_kernels()  # before any room imports FAISS
