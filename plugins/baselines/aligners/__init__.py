"""Aligners that need no training: by outline, by the intensities of two slides, by expression."""
