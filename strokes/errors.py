"""Errors a person can act on."""


class StrokesError(Exception):
    """Bad input or a bad file: one line that names the thing and the remedy.

    The command line prints it and exits with status 2; nodes show it as it is.
    """


class Cancelled(Exception):
    """The caller asked to stop; whatever was finished before stays valid."""
