"""Reports side by side: the same queries paired and tested, and what changed. numpy, no Ray."""
