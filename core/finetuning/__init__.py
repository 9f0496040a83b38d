"""Fine-tuning of encoders on own tissue: what an encoder lends, the objective, the run, and the honest report."""
