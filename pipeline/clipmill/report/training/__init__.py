"""What a training run did: its curves, and the model before and after."""
