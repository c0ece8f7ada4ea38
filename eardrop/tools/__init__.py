"""Programs for people who make and check models."""
