"""What says how well a text fits a picture: one file a kind, behind one protocol."""
