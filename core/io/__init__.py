"""Sections, stacks and volumes, in and out."""
