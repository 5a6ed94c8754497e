"""What texts about pictures are worth: overlap with references, fit to the picture, right answers."""
