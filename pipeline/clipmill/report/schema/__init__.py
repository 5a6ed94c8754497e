"""The parts of ``report.json``: what each section of a report holds, one file per kind of measurement."""
