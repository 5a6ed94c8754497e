"""Retrieval both ways: exact ranks, recall and the measures around them."""
