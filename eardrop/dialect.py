"""Two truths to be equal to: the reference (liquid-audio, PyTorch) and llama.cpp; this is where they differ.

    field                    REFERENCE, the default                     LLAMA_CPP
    newline_between_turns    no                                         a newline token before every later user turn
    turn_is_one_text         a turn's pieces are tokenised apart;       a turn is tokenised as one text, in which
                             what is said can't spell control tokens    whatever spells a control token is one
    answer_is_closed         `<|im_end|>` and a newline end an answer   the next turn follows the answer's last word
    half_first_convolution   float32                                    input and kernel rounded to float16
    control_text             left out                                   written out as text
    raw_output               UTF-8, U+FFFD for what isn't, one          the tokens' bytes as they are, a newline after
                             newline at the end                         each turn, two at the end

The first three are read by `text`, the fourth by `model`, the last two by the command line. A dialect is a value
handed down; nobody asks which of the two it is.
"""

from dataclasses import dataclass
from enum import Enum


class ControlText(Enum):
    """What becomes of a control token, as `<|audio_start|>`, in the text of an answer."""

    LEFT_OUT = "left out"
    WRITTEN_OUT = "written out"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One column of the table above."""

    name: str
    newline_between_turns: bool
    turn_is_one_text: bool
    answer_is_closed: bool
    half_first_convolution: bool
    control_text: ControlText
    raw_output: bool


REFERENCE = Dialect(
    name="reference",
    newline_between_turns=False,
    turn_is_one_text=False,
    answer_is_closed=True,
    half_first_convolution=False,
    control_text=ControlText.LEFT_OUT,
    raw_output=False,
)
LLAMA_CPP = Dialect(
    name="llama.cpp",
    newline_between_turns=True,
    turn_is_one_text=True,
    answer_is_closed=False,
    half_first_convolution=True,
    control_text=ControlText.WRITTEN_OUT,
    raw_output=True,
)
