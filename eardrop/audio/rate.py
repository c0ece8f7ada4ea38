"""Rates: the one of everything after `read`, and those that a recording may have."""

SAMPLE_RATE = 16_000  # samples a second
LEAST_RATE, MOST_RATE = 4_000, 384_000  # below is no speech, above no recorder
