"""What every method needs and no method owns: data, contracts, discovery, evaluation."""
