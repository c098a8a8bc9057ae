"""Update rules: one file a rule, a registry."""
