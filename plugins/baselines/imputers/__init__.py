"""Imputers that every network is measured against: means, neighbours, splines, kriging, other sections."""
