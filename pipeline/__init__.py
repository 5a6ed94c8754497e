"""clipmill's library: one room a stage of the data's way, from source Parquet to report."""

from pipeline.compiler import leave_out_compiler
from pipeline.processor import name_kernels

__version__ = "0.1.0"

name_kernels()  # before any room imports FAISS
leave_out_compiler()  # before any room imports torchvision or open_clip
