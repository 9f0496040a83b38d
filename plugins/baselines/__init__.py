"""Simple methods that every network is measured against, and the smallest examples of a plugin."""
