"""What each operation of the networks means. `OPS` is the table that tests, benchmarks and checks read."""

from eardrop.ops.activations import Activation
from eardrop.ops.attention import ATTENTION, ATTENTION_WEIGHTS
from eardrop.ops.conv2d import CONV2D, FLATTEN, halved
from eardrop.ops.embed import EMBED
from eardrop.ops.linear import LINEAR
from eardrop.ops.log_mel import LOG_MEL, framed
from eardrop.ops.norms import LAYER_NORM, RMS_NORM
from eardrop.ops.pick import PICK
from eardrop.ops.pointwise import ADD, GLU, SWIGLU
from eardrop.ops.record import (
    Arithmetic,
    Array,
    Case,
    Cost,
    Float32,
    Int32,
    Op,
    Tolerance,
    grouped,
    outputs,
    ragged,
    spans,
)
from eardrop.ops.rel_attention import REL_ATTENTION
from eardrop.ops.rope import ROPE
from eardrop.ops.short_conv import SHORT_CONV
from eardrop.ops.taps import heard, listening, tap, write_taps

OPS = {
    op.name: op
    for op in (
        *(LINEAR, EMBED, LAYER_NORM, RMS_NORM, GLU, SWIGLU, ADD),
        *(LOG_MEL, CONV2D, FLATTEN, REL_ATTENTION, SHORT_CONV, ROPE, ATTENTION, ATTENTION_WEIGHTS, PICK),
    )
}

__all__ = [
    "OPS",
    "Activation",
    "Arithmetic",
    "Array",
    "Case",
    "Cost",
    "Float32",
    "Int32",
    "Op",
    "Tolerance",
    "framed",
    "grouped",
    "halved",
    "heard",
    "listening",
    "outputs",
    "ragged",
    "spans",
    "tap",
    "write_taps",
]
