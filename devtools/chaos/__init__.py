"""Breaks parts of a running chat while users talk, and counts what is lost."""
