"""Kernels in Triton and torch for NVIDIA GPUs; `backend.py` joins them, docs/cuda.md says what was proved how."""
