"""Sections, stacks and genes: what flows through stzoo, which spots are meant, and what a section has to be."""
