"""clipmill's library: one room a stage of the data's way, from source Parquet to report."""

__version__ = "0.1.0"
