"""Measuring: models to measure with, and what they are measured by."""
