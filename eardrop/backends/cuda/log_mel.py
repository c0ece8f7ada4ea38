"""Log-mel frames by torch's transforms, in float64 as the reference has them: a mean of silence is exact then.

Clip after clip, each in pieces of frames: a frame's samples in float64 take eight times the memory of its hop.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from eardrop.audio.log_mel import GUARDS, MelConfig, hann_window, mel_bank, per_feature
from eardrop.ops import Int32, spans

FRAMES_AT_ONCE = 1 << 13  # 34 MB of samples in float64, and as much of their spectra


def has_kernel(config: MelConfig) -> bool:
    """Whether it is a front end that is computed here: with zeros around, and each bin standardised."""
    return config.finish is per_feature and config.padding == "constant"


def log_mel(samples: Tensor, offsets: Int32, config: MelConfig) -> Tensor:
    """As the operation of this name."""
    return torch.cat([_standardised(_energies(samples[clip], config)) for clip in spans(offsets)])


def _energies(samples: Tensor, config: MelConfig) -> Tensor:
    """(T, M) mel energies of a clip, in float64."""
    least = max(config.least_samples, config.clip)
    signal = pad(samples.float(), (0, max(0, least - len(samples))))
    count = len(signal) // config.hop
    signal = torch.cat([signal[:1], signal[1:] - config.preemphasis * signal[:-1]])
    frames = pad(signal, (config.fft // 2,) * 2).unfold(0, config.fft, config.hop)[:count]
    window, bank = _tables(config, samples.device)
    pieces = []
    for piece in frames.split(FRAMES_AT_ONCE):
        spectrum = torch.fft.rfft(piece.double() * window)
        pieces.append((spectrum.real.square() + spectrum.imag.square()) @ bank)
    return torch.cat(pieces)


def _standardised(energies: Tensor) -> Tensor:
    """`per_feature`, in float32."""
    added, divided = GUARDS
    logs = torch.log(energies + added)
    logs = logs - logs[0]  # a constant bin is 0 then, and stays exactly 0
    standard = (logs - logs.mean(0)) / (logs.std(0) + divided)
    return torch.cat([standard, standard.new_zeros(1, standard.shape[1])]).float()


@lru_cache(maxsize=8)
def _tables(config: MelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """The window (fft,) and the triangles (F, M), in float64."""
    tables = hann_window(config), mel_bank(config).T.astype("float64")
    window, bank = (torch.from_numpy(table.copy()).to(device) for table in tables)
    return window, bank
