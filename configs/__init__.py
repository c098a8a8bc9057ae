"""The typed model of a config file, and the YAML files people run."""
