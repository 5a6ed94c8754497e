"""Embed a folder of Parquet, index it and search it: python embed_and_search.py INPUT OUTPUT "two dogs"."""

import sys

import clipmill

source, output, words = sys.argv[1:]
clipmill.embed(source, f"{output}/embeddings", thumbnails=96)
clipmill.build_index(f"{output}/embeddings", f"{output}/index")
for hit in clipmill.open_index(f"{output}/index").search(words, k=5):
    print(f"{hit.score:.3f}  {hit.id}")
