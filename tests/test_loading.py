"""From files to a recogniser: what is told on the way."""

from itertools import pairwise

from eardrop.backends.numpy import NumpyBackend
from eardrop.gguf import open_gguf
from eardrop.loading import load_model
from tests.pairs import pair


def test_progress_counts_each_tensor_of_both_files_once() -> None:
    text, audio = pair()
    shares: list[float] = []
    load_model(text, audio, NumpyBackend(), shares.append)
    tensors = len(open_gguf(text).tensors) + len(open_gguf(audio).tensors)
    unread = 3  # of a projector: what only speech output needs
    assert all(before <= after for before, after in pairwise(shares))
    assert sorted(set(shares[:-1])) == [count / tensors for count in range(1, tensors - unread + 1)]
    assert shares[-1] == 1.0
