"""How every page looks: colours in light and dark, type, and cards of results. Pages and the service take it from here."""
