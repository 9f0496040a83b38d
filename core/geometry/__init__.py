"""Transforms between sections (affine, displacement, matches), and images and polygons warped by them."""
