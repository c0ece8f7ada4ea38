"""Rows of the embedding, straight from its blocks."""

import torch

from eardrop.backends.cuda.weight import Weight


def embed(ids: torch.Tensor, w: Weight) -> torch.Tensor:
    """ids (N,) int32 → (N, D) float32, the file's values bit for bit."""
    return w.rows(ids)
