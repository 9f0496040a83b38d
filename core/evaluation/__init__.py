"""Protocols: loaded, run, scored, reported."""
