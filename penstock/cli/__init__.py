"""The command line. Importing this package is cheap; the commands are imported when `main` runs."""

__all__ = ["main"]


def main() -> None:
    """Run the command that `sys.argv` names and end the process with a code of `ExitCode`."""
    import sys

    from penstock.cli.app import run

    sys.exit(run())
