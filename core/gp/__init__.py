"""Gaussian processes over spots: kernels, likelihood and prediction, and blocks that bound their memory."""
