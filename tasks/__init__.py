"""What is minimised and what is scored: a Problem is a model, a loss and batches."""
