"""Studies: grids of experiments with a question, their tables and their pictures."""
