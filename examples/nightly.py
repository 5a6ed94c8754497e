"""A version a night, published where it is good enough, and searched: python nightly.py NIGHTLY.yaml OUTPUT "two dogs"."""

import sys

import clipmill

run_file, output, words = sys.argv[1:]
version = clipmill.run(run_file)
print("nothing new" if version is None else f"{version.rows_encoded:,} rows encoded for version {version.name}")
print(clipmill.open_index(output).search(words, k=3).to_arrow().select(["rank", "score", "id"]).to_pylist())
