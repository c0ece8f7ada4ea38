"""Samples → Opus in WebM, small enough to travel inside a page: 24 kbit/s, 3 kB a second, 10.8 MB an hour."""

import io
from collections.abc import Iterable

from eardrop.audio.rate import SAMPLE_RATE
from eardrop.audio.samples import Float32

OPUS_BIT_RATE = 24_000  # speech at 16 kHz is transparent to most ears from about here


def encode_opus(blocks: Iterable[Float32], *, most: int) -> bytes | None:
    """A whole WebM file of mono samples (N,) at 16 kHz, N ≥ 1 in all; None where it would exceed `most` bytes.

    None, too, where FFmpeg was built without libopus. Equal samples give equal bytes. WebM has an index,
    by which browsers seek; bits are spent where the sound needs them, so the size is only known at the end.
    """
    import av  # not at the start: few write pages

    if "libopus" not in av.codecs_available:
        return None
    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono", options={"application": "voip"})
        stream.bit_rate = OPUS_BIT_RATE
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            container.mux(stream.encode(frame))
            if file.tell() > most:
                return None
        container.mux(stream.encode(None))
    return file.getvalue() if file.tell() <= most else None
