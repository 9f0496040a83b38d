"""S2S-ST: single-shot sparser-to-sparse imputation with natural images (arXiv 2507.16886). Import-light."""
