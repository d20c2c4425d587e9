"""Every error that geo_retina raises on purpose.

All share the root `GeoRetinaError`, so that one `except` catches them, and each is also the builtin
a caller would expect (`OSError`, `ValueError`, ...). The text says what was expected, what came,
and what to do. The command line turns a `UsageError` into exit code 2 and any other into 1.
"""


class GeoRetinaError(Exception):
    """Root of all errors raised on purpose by geo_retina."""


class UsageError(GeoRetinaError):
    """The input or an option is wrong: nothing was started, the user can mend it."""


class RasterError(UsageError, OSError):
    """A raster is missing, is not a raster, or cannot be opened."""


class RasterReadError(GeoRetinaError, OSError):
    """Pixels of an opened raster cannot be read (damaged or truncated file, lost connection)."""


class GeoreferenceError(UsageError, ValueError):
    """A raster's CRS or transform is missing or cannot be used."""


class BandError(UsageError, ValueError):
    """The raster's bands are not those the model needs."""


class RadiometryError(UsageError, ValueError):
    """The raster's data type or value range does not fit the model and no mapping was stated."""


class GsdError(UsageError, ValueError):
    """The raster's ground sampling distance is out of the range the model can use."""


class AoiError(UsageError, ValueError):
    """The area of interest cannot be read or has no usable polygon."""


class LabelError(UsageError, ValueError):
    """Labels cannot be read, lack a CRS, or contradict the raster or the model."""


class OutputError(UsageError, OSError):
    """An output cannot be written: unknown format, missing folder, no permission."""


class LedgerError(UsageError, ValueError):
    """A ledger of an earlier run is missing, damaged, in use, or belongs to another job."""


class WriteError(GeoRetinaError, OSError):
    """Writing failed while the work was under way (disk full, lost mount)."""


class ModelError(UsageError, ValueError):
    """A model is unknown, or its checkpoint cannot be read or does not fit the request."""


class ConfigError(UsageError, ValueError):
    """A configuration file or an option has an unknown key or a value out of range."""


class DeviceError(UsageError, RuntimeError):
    """The requested compute device is not there, or cannot be used."""


class DependencyError(UsageError, ImportError):
    """A library that only some commands need is not installed."""


class TrainingError(GeoRetinaError, RuntimeError):
    """Training cannot go on, for instance because the loss is not finite."""
