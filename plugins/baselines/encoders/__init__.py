"""Encoders that learn nothing from tissue: hand-made features, and a network trained on photographs."""
