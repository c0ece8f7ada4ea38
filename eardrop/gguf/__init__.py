"""One container: a GGUF file ↔ named facts and tensors, and the layouts of their blocks."""

from eardrop.gguf.facts import Fact, Value, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from eardrop.gguf.formats import BF16, F16, F32, FORMATS, Q4_0, Q6_K, Q8_0, BlockFormat, by_name, from_bf16, to_bf16
from eardrop.gguf.reader import GgufFile, open_gguf
from eardrop.gguf.tensor import GgufTensor
from eardrop.gguf.writer import PlannedTensor, file_bytes, write_gguf

__all__ = [
    "BF16",
    "F16",
    "F32",
    "FORMATS",
    "Q4_0",
    "Q6_K",
    "Q8_0",
    "BlockFormat",
    "Fact",
    "GgufFile",
    "GgufTensor",
    "PlannedTensor",
    "Value",
    "by_name",
    "f32",
    "f64",
    "file_bytes",
    "from_bf16",
    "i8",
    "i16",
    "i32",
    "i64",
    "open_gguf",
    "to_bf16",
    "u8",
    "u16",
    "u32",
    "u64",
    "write_gguf",
]
