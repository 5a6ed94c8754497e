"""Near-duplicates of a dataset, a group a line: python near_duplicates.py EMBEDDINGS OUTPUT."""

import sys

import pyarrow.parquet as pq

import clipmill

embeddings, output = sys.argv[1:]
found = clipmill.dedup(embeddings, output, threshold=0.95)
groups = pq.read_table(f"{output}/groups.parquet").group_by("group").aggregate([("id", "list")])
print(f"{found.rows_dropped:,} of {found.n:,} pictures can be dropped")
for ids in groups.column("id_list").to_pylist():
    print(*ids)
