"""Data sources: one file a source, a registry."""
