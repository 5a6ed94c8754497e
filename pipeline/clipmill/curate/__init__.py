"""Near-duplicates, and rows kept or dropped. numpy and Arrow, no Ray."""
