"""The model zoo: weights that are found, verified, loaded and listed."""
