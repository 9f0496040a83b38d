"""The refined variant (ours): noise-aware kriging, corrected by a network that learned from photographs."""
