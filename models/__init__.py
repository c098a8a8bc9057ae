"""Architectures: one file a family, a registry."""
