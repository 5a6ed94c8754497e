"""Input Parquet to rows: find the columns, cut into units of work, decode images; importers of other formats."""
