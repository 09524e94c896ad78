"""What can go wrong while training, as types; each message names the value, the limit and the remedy."""


class TrainingError(Exception):
    """Base of all errors that the command line reports without a traceback."""


class ConfigError(TrainingError):
    """The configuration file, or an override, is wrong."""


class DataError(TrainingError):
    """Images or packed data are missing, unreadable or unusable."""


class RunError(TrainingError):
    """A run directory is missing, damaged, or does not fit what is asked of it."""


class CheckpointError(RunError):
    """A checkpoint cannot be written or read, or belongs to another network."""


class DivergedError(RunError):
    """The loss or a gradient is no finite number any more; the last good checkpoint is kept."""


class ExportError(TrainingError):
    """The exported file failed one of its checks; nothing was published."""


class WorseThanBefore(TrainingError):
    """An evaluation lies further below an earlier one than the tolerance allows."""


class TooSlow(TrainingError):
    """A network computes at a smaller share of a plain chain's pace than was asked for."""
