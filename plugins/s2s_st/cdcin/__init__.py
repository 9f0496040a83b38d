"""The paper's variant: CDCIN, a cascade of data-consistent imputation blocks, trained on the section it fills."""
