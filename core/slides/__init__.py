"""Slides: pixels of an H&E image by region at any µm/px, whatever the file."""
