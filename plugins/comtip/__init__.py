"""CoMTIP: contrastive masked text-image pretraining (arXiv 2509.16892)."""
