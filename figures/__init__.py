"""Pictures and tables out of run folders; nothing is measured here."""
