"""Measure a model before training and compare it with the networks of the study ``blocks_and_gap``."""
