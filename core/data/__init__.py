"""Sections, stacks and genes: the data model of stzoo, selection of spots, and validation."""
