"""The service over HTTP: who may ask, how much, by which paths, and what is counted."""
