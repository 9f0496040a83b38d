"""Heads: from an embedding to expression."""
