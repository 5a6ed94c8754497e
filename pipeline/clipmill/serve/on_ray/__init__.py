"""The service on Ray Serve: replicas that answer, one that encodes, and processes that hold shards of large indices."""
