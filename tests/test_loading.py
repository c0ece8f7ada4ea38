"""From files to a recogniser: what is told on the way."""

from itertools import pairwise

from eardrop.backends.numpy import NumpyBackend
from eardrop.gguf import open_gguf
from eardrop.loading import load, load_model
from tests.hub.fake_hub import Hub, Repository
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


def test_bytes_of_a_name_are_told_as_they_are_fetched_and_none_once_it_is_here(hub: Hub) -> None:
    names = ("m-F16.gguf", "mmproj-m-F16.gguf")
    hub.repositories["some/speech-GGUF"] = Repository(
        {name: path.read_bytes() for name, path in zip(names, pair(), strict=True)}
    )
    told: list[tuple[int, int]] = []
    size = sum(path.stat().st_size for path in pair())
    with load("some/speech-GGUF:F16", backend="numpy", fetching=lambda here, of: told.append((here, of))):
        pass
    assert (told[0], told[-1]) == ((0, size), (size, size))
    assert told == sorted(told)
    told.clear()
    with load("some/speech-GGUF:F16", backend="numpy", fetching=lambda here, of: told.append((here, of))):
        pass
    assert told == []
