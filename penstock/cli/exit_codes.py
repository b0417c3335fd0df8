"""What the process's exit code says. The numbers do not change within a major version."""

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """Exit codes of every `penstock` command; `meaning` is the documented sentence."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    UNAVAILABLE = 4
    DATA = 5
    REFUSED = 6
    LOSS = 7
    INTERNAL = 70
    INTERRUPTED = 130
    PIPE = 141

    @property
    def meaning(self) -> str:
        """One sentence for people, the same in `penstock --help` and in docs/exit-codes.md."""
        return _MEANINGS[self]


# Each fits one line of an 80-column terminal.
_MEANINGS = {
    ExitCode.OK: "The command did what it was asked to do.",
    ExitCode.FAILED: "It ran and the answer is no: a check failed, or some work was refused.",
    ExitCode.USAGE: "The command line is wrong: unknown option, missing or bad value.",
    ExitCode.CONFIG: "The settings are wrong: environment, penstock.toml or the stack's file.",
    ExitCode.UNAVAILABLE: "A server did not answer in time; trying again later may help.",
    ExitCode.DATA: "A file cannot be read or written, or holds lines that are no events.",
    ExitCode.REFUSED: "A server refused: missing migration, missing privilege, wrong login.",
    ExitCode.LOSS: "Kafka lost records before they were ingested; an operator must decide.",
    ExitCode.INTERNAL: "A fault in Penstock itself; please report the traceback on stderr.",
    ExitCode.INTERRUPTED: "Interrupted from the keyboard.",
    ExitCode.PIPE: "Whoever read the output stopped reading, as `head` does.",
}
