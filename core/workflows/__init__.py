"""High-level functions, one call from data to result: predict, embed, impute, align, query, design, densify."""
