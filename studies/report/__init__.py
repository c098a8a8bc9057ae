"""The report: studies or runs on one HTML page."""
