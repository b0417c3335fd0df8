"""The application's root exception; `penstock.cli.failures` maps it and those of the distributions."""

from typing import ClassVar

from penstock.cli.exit_codes import ExitCode

__all__ = ["InputError", "PenstockError", "ServerRefusedError", "ServerUnavailableError", "SettingsError"]


class PenstockError(Exception):
    """A foreseeable fault of the application: its text is a paragraph for the person at the terminal.

    It says what happened, where, why and what to do next, and holds no secret.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class SettingsError(PenstockError):
    """A setting is missing, unknown or invalid. Correct the place that the text names.

    `variable`: of the environment, where it is the only one at fault.
    """

    exit_code = ExitCode.CONFIG

    def __init__(self, text: str, variable: str = "") -> None:
        super().__init__(text)
        self.variable = variable


class ServerUnavailableError(PenstockError):
    """A server did not answer before the deadline. Start it (`penstock up`) or correct its address.

    `what` happened and the `advice` make up the text; whoever shows the advice elsewhere takes them apart.
    """

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what} {advice}" if advice else what)
        self.what = what
        self.advice = advice


class ServerRefusedError(PenstockError):
    """A server answered and said no: the login, the database, or a privilege is missing."""

    exit_code = ExitCode.REFUSED


class InputError(PenstockError):
    """What was to be read cannot be read: a missing file, a line that is no event."""

    exit_code = ExitCode.DATA
