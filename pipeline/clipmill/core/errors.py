"""The ways a command ends other than well, each with its exit code."""

from clipmill.core.secrets import clean


class ClipmillError(Exception):
    """Something the user is told in one sentence, without a traceback.

    ``work_goes_on`` says that threads are still at work inside Ray: the process can only be left, not wound up.
    """

    exit_code = 1
    work_goes_on = False

    def __init__(self, *said: object) -> None:
        super().__init__(*(clean(one) if isinstance(one, str) else one for one in said))


class RunFailed(ClipmillError):
    """The work could not be finished, through no mistake in the command. Exit code 1."""

    exit_code = 1


class UserError(ClipmillError):
    """A mistake in the command, its configuration or its input that the user can put right. Exit code 2."""

    exit_code = 2


class StorageFailed(RunFailed):
    """The storage did not answer, or kept failing: nothing is known of what is there. Exit code 1."""


class WorkersFailed(RunFailed):
    """The workers that were to look could not: nothing is known of what they did not look at. Exit code 1."""


class StorageRefused(UserError):
    """The storage does not let this user in: credentials, permissions, names. Exit code 2."""


class Occupied(UserError):
    """Another run is at work towards the same output. Exit code 2."""


class OutputDiffers(UserError):
    """The output is a finished dataset of other input, model or settings than asked for. Exit code 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as from a scheduler or before a spot machine is taken: as Ctrl-C, with exit code 143."""


class BarMissed(ClipmillError):
    """The work is finished, but a quality bar given by the user was missed. Exit code 3."""

    exit_code = 3
