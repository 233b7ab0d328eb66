"""The command line. Every command calls the function that the Python API has; heavy imports wait."""

from __future__ import annotations

import os
import sys

import click

from usbench import __version__
from usbench.cli.cache import cache
from usbench.cli.check import check
from usbench.cli.data import data
from usbench.cli.echo import echo
from usbench.cli.evaluate import evaluate
from usbench.cli.examples import add_examples
from usbench.cli.figure import figure
from usbench.cli.leaderboard import leaderboard
from usbench.cli.matrix import matrix
from usbench.cli.methods import methods
from usbench.cli.mistakes import explain, is_bare_group
from usbench.cli.new import new
from usbench.cli.options import add_everywhere
from usbench.cli.predict import predict
from usbench.cli.prune import prune
from usbench.cli.run import report, run
from usbench.cli.score import score
from usbench.cli.status import status
from usbench.cli.submissions import submit, verify
from usbench.cli.weights import weights
from usbench.cli.zeus import zeus
from usbench.errors import UsbenchError, log_note
from usbench.runtime.output import OutputLost, flush_output, is_of_output, take_any_text
from usbench.runtime.process import leave_quickly, settle
from usbench.runtime.stopping import end_on_term, ending

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="usbench")
def main() -> None:
    """Benchmark of multimodal medical image segmentation: several aligned scans in, one mask out."""


COMMANDS = (
    run, matrix, status, predict, evaluate, score, leaderboard, figure, report, prune, cache, methods, data,
    weights, zeus, new, check, submit, verify,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
add_everywhere(main)
add_examples(main)
if "_USBENCH_COMPLETE" in os.environ:
    from usbench.cli.completion import add_completion

    add_completion(main)


def entry() -> None:
    """The console script: errors are one line and exit code 1."""
    settle()
    end_on_term()
    take_any_text()
    debug = "--debug" in sys.argv[1:]
    try:
        main.main(prog_name="usbench", standalone_mode=False)
        flush_output()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt) as stop:
        _fail(*ending(stop), debug)
    except click.ClickException as error:
        if is_bare_group(error):
            echo(error.format_message())
            return
        _fail(explain(error, main, sys.argv[1:]), 1, debug)
    except UsbenchError as error:
        _fail(f"{error}{log_note(error)}", 1, debug)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        if isinstance(error, OSError) and is_of_output(error):
            _fail(str(OutputLost(error)), 1, debug)
        line = " ".join(str(error).split()) or "no message"
        where = log_note(error) or "; --debug shows the traceback"
        _fail(f"unexpected {type(error).__name__}: {line}{where}", 1, debug)
    finally:
        leave_quickly()


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    entry()
