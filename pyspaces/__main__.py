"""The entry point of `python -m pyspaces`; the console script does the same."""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # plain numbers: see status.py


def main() -> None:
    """Run the command line and exit with its status."""
    # A launcher is over before the first collection would pay for itself.
    gc.disable()
    # First of all: Ctrl-C while the rest is imported must not print a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pyspaces import finding

    finding.install()
    from pyspaces import cli

    cli.run()


if __name__ == "__main__":
    main()
