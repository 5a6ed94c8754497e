"""Numbers to JSON, CSV, pictures and one HTML page."""
