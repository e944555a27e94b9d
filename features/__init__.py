"""The contract between the stages: the HDF5 feature stack, its format (FORMAT.md) and its checks."""

from features.runtime.in_the_way import check_free

check_free("features")

from features.check import info, verify
from features.compression import compress
from features.find import find
from features.indexing import index
from features.open import open_stack
from features.pooling import pool
from features.reader import Stack
from features.runtime.errors import Failed, Refused

__version__ = "0.1.0"
__all__ = ["Failed", "Refused", "Stack", "compress", "find", "index", "info", "open_stack", "pool", "verify"]
