"""One CLIP model: load, preprocess, tokenise, encode, identity. Home of the built-in small model."""
