"""What studies have measured as numbers, and what these say of a claim."""
