"""One call from data to result: predict, embed, impute, align, query, design, densify."""
