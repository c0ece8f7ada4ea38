"""What docs/command-line.md holds word for word, made from the tables it is about."""

from eardrop import errors
from eardrop.cli.chat import COMMANDS as CHAT
from eardrop.cli.main import COMMANDS
from eardrop.cli.run_flags import markdown


def commands() -> str:
    return "\n".join(f"| `eardrop {name}` | {command.about} |" for name, command in COMMANDS.items())


def codes() -> str:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EardropError)]
    rows = {0: "all went well", 1: "something failed, or eardrop has a bug"}
    for code in sorted({kind.exit_code for kind in kinds} - set(rows)):
        first = next(kind for kind in kinds if kind.exit_code == code)
        rows[code] = f"{first.__name__}: {first.__doc__.partition(';')[0].removesuffix('.')}"
    return "\n".join(f"| {code} | {when} |" for code, when in rows.items())


def chat() -> str:
    return "\n".join(f"| `{name}` | {command.about} |" for name, command in CHAT.items())


def flags() -> str:
    return markdown()
