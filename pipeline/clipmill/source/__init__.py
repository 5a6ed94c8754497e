"""Input Parquet to rows: find the files and columns, cut them into units of work, read them, decode their images."""
