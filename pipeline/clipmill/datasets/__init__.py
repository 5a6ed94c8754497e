"""Finished datasets: manifests, lists of files, readers, Arrow and numpy columns, conditions on rows."""
