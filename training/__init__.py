"""The training loop, and everything that makes a run exact, resumable and readable."""
