"""A report of texts about pictures."""
