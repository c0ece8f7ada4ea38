"""The CPU backend: kernels written in Python, compiled in this process for this processor."""
