"""Features in compressed chunks, read as if they were an array."""

from pathlib import Path
from typing import Any

import numpy as np

from features.hdf5 import open_hdf5

CACHE = 64 << 20  # bytes of unpacked chunks kept: a band of rows is asked for in pieces that share chunks


class Packed:
    """(rows, width) float32, unpacked when indexed, whatever type is stored. HDF5's handle stays open.

    Rows are indexed by a slice or by an integer array in any order, columns by a slice.
    """

    ndim, dtype = 2, np.dtype("<f4")

    def __init__(self, path: Path) -> None:
        self._data = open_hdf5(path, rdcc_nbytes=CACHE)["features"]
        self.shape: tuple[int, int] = self._data.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *columns = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, np.ndarray):
            rows, places = np.unique(rows, return_inverse=True)  # as h5py wants them
            return self._read(rows, *columns)[places]
        return self._read(rows, *columns)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._read(slice(None)).astype(dtype or self.dtype, copy=False)

    def _read(self, *key: Any) -> np.ndarray:
        return self._data[key].astype(self.dtype, copy=False)
