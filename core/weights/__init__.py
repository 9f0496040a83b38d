"""Repositories of weights on disk: written, verified, listed."""
