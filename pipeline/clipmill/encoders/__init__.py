"""What makes vectors of pictures and texts: the protocol, an adapter for each library, the built-in small model."""
