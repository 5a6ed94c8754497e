"""Proof from the files alone that a dataset is whole: nothing missing, nothing twice, nothing altered."""
