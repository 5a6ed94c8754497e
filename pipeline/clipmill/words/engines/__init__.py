"""What writes the texts, one library a file."""
