"""Pictures sorted by what is on them, a tag each: python tags.py INPUT OUTPUT "a red circle" "a blue square" …"""

import sys

import pyarrow.parquet as pq

import clipmill

pictures, output, *tags = sys.argv[1:]
clipmill.embed(pictures, f"{output}/embeddings")
clipmill.filter(f"{output}/embeddings", f"{output}/scored", prompt=[f"a photo of {tag}" for tag in tags])
for part in clipmill.verify(f"{output}/scored"):
    assert part.whole, part.faults
for row in pq.ParquetDataset(f"{output}/scored/kept").read().to_pylist():
    cosines = {tag: row[f"cosine_{number}"] for number, tag in enumerate(tags, start=1)}
    print(row["id"], max(cosines, key=cosines.__getitem__), sep="\t")
