"""One file a library: how its models are loaded, prepared for and called."""
