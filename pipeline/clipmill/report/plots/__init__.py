"""Plots as inline SVG: one kind a file, each a function from data to markup, coloured by the page's style sheet."""
