"""The one rate of everything after `read`."""

SAMPLE_RATE = 16_000  # samples a second
