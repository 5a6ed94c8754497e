"""Words from pictures: captions, alt text and answers, by engines behind one protocol."""
