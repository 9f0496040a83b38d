"""What every method shares: data, interfaces, plugin discovery, training, evaluation."""
