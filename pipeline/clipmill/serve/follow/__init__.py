"""Which indices are open: found, checked, switched when a new version is published, and freed of what is taken down."""
