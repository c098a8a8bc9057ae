"""A user's own model and data, measured before training and compared with the networks of the studies."""
