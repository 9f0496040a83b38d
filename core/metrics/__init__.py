"""Scores: correlation, errors, maps, retrieval, reliability, calibration."""
