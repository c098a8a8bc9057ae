"""Many runs of one config: what they are, doing them, and choosing the best."""
