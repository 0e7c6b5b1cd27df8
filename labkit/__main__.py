"""``dmf-lab``, or ``python -m labkit``: one command for all that the lab does without a notebook."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from labkit.common.errors import FailedRunsError, printable
from labkit.common.files import expanded

# Module of `labkit.commands`, and what it does in one line. Each has `arguments(parser)` and `main(parsed) -> int`;
# it is imported only when it is called, so that help comes at once.
COMMANDS = {
    "run": "execute the notebooks in order and say what came out",
    "train": "train a named setting",
    "table": "train what Table 1 or 2 lacks",
    "figure": "measure what a figure or a study shows",
    "ideas": "train the lab's ideas beside DMF, on cached features",
    "speed": "measure the fast form against the literal one",
    "gpu": "check a GPU, measure it, and train the paper's setting on it",
    "export-explorer": "write the explorer as one page that needs no Python",
    "check-data": "say which data set lies in a folder, and whether it is whole",
    "calibrate": 'fit the probabilities of shipped models, and "none of these"',
    "ship": "add a trained model to those that come with the lab",
}


# What the library raises for input that cannot be, for a training that diverges, and a sweep at its end.
SAID = (ValueError, TypeError, OSError, FloatingPointError, FailedRunsError)
INTERRUPTED = 130  # as of a shell: 128 and the number of the signal


def main(given: Sequence[str] | None = None) -> int:
    """Call the command that is named first, and return its exit code.

    What is wrong with the input, and where an interrupted training goes on, is said in one sentence; `--traceback` lets
    the exception through.
    """
    given = sys.argv[1:] if given is None else list(given)
    names = "\n".join(f"  {name:<16} {what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dmf-lab",
        description="A lab for Dynamic Meta-Filter few-shot learning.",
        epilog=f"commands:\n{names}\n\ndmf-lab COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND")
    name = parser.parse_args(given[:1]).command
    command = importlib.import_module(f"labkit.commands.{name.replace('-', '_')}")
    own = argparse.ArgumentParser(
        prog=f"dmf-lab {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.arguments(own)
    own.add_argument("--traceback", action="store_true", help="show where in the code an error was raised")
    # Wherever it stands: behind a figure's name, too.
    parsed = own.parse_args([option for option in given[1:] if option != "--traceback"])
    loud = vars(parsed).pop("traceback") or "--traceback" in given
    for option, value in vars(parsed).items():
        if isinstance(value, Path):  # a shell leaves the ~ of --out=~/x as it is
            setattr(parsed, option, expanded(value))
    try:
        code: int = command.main(parsed)
    except (*SAID, KeyboardInterrupt) as error:
        if loud:
            raise
        stopped = isinstance(error, KeyboardInterrupt)
        said = printable(str(error)) or "interrupted"
        print(f"dmf-lab {name}: {said}{'' if stopped else ' (--traceback shows where)'}", file=sys.stderr)
        return INTERRUPTED if stopped else 1
    return code


if __name__ == "__main__":
    sys.exit(main())
