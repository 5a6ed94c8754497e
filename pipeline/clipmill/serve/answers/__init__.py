"""From a question to its answer, over an index that is open. Nothing here knows HTTP."""
