"""Every exception eardrop raises on purpose, one class per thing a caller can do about it.

    EardropError               catch this to catch them all
     ├── ModelFileError        a model file is damaged, foreign or incomplete: fetch it again, or give another
     ├── FetchError            a model couldn't be fetched: mend network, rights, disk or name, and ask again
     ├── AudioError            a recording can't be read or used: convert it, or give another
     │    └── AudioTooLong     … because it exceeds a limit: raise the limit, or cut it
     ├── OptionError           a wish that can't be met: change the option
     ├── MissingExtra          a part that isn't installed: the message holds the pip command
     ├── ContextFull           prompt and answer need more rows than there are: shorten, or raise the limit
     ├── Incomplete            a text is there, and may be wrong or incomplete, where that was to be an error
     ├── EngineClosed          the engine was closed, failed or forked away: load again
     └── Cancelled             somebody asked to stop

A message says what was expected, what was found, and the next move. `assert` is for our own mistakes.
`exit_code` is what the command line returns; the table in docs/command-line.md is derived from it.
"""

from typing import ClassVar


class EardropError(Exception):
    """The root of everything eardrop raises on purpose."""

    exit_code: ClassVar[int] = 1


class ModelFileError(EardropError):
    """A model file is damaged, foreign or incomplete; the message names the file and the key or tensor."""

    exit_code = 3


class FetchError(EardropError):
    """A model couldn't be fetched from the hub; the message says what stood in the way."""

    exit_code = 7


class AudioError(EardropError):
    """A recording can't be read or used; the message names the recording."""

    exit_code = 4


class AudioTooLong(AudioError):
    """A recording exceeds a limit on its length; the message names the limit and how to move it."""


class OptionError(EardropError, ValueError):
    """An option has a value that can't be met."""

    exit_code = 2


class MissingExtra(EardropError, ImportError):
    """A feature needs a package that isn't installed; the message holds the command that installs it."""

    exit_code = 5


class ContextFull(EardropError):
    """Prompt and answer need more rows than the context holds; nothing was changed."""

    exit_code = 6


class Incomplete(EardropError):
    """A text may be wrong or incomplete, and --strict was given; the warnings before it say where."""

    exit_code = 8


class EngineClosed(EardropError):
    """The engine was closed, has failed, or lives in the process this one was forked from."""


class Cancelled(EardropError):
    """The request was cancelled, by a caller or by Ctrl-C."""

    exit_code = 130
