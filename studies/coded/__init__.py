"""Studies with code of their own: one module each, beside what several of them share."""
