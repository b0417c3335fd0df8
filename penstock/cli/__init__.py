"""The command line. Importing this package is cheap; the commands are imported when `main` runs."""

__all__ = ["main"]


def main() -> None:
    """Run the command that `sys.argv` names and end the process with a code of `ExitCode`."""
    import sys

    try:
        from penstock.cli.app import run
    except KeyboardInterrupt:  # the commands take a second to import
        sys.exit(130)
    sys.exit(run())
