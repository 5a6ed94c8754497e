"""Units of rows: each is committed whole, and those of a shard become its files, one for each part of the dataset."""
