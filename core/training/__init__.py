"""The one training loop: steps, checkpoints, validation, logs, ranks, recipes, trackers."""
