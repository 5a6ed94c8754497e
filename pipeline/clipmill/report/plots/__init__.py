"""Plots as inline SVG: one kind per file, each a function from data to markup, coloured by the page's style sheet."""
