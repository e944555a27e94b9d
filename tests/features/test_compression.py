from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import contents, stack

from features import Failed, Refused, compress, compression, open_stack, verify
from features.compression import CHUNK, fletcher32
from features.runtime.lock import writer_lock

HELD = contents(rows=CHUNK[0] + 6, shape=(1, 5, 1000), classes=2)  # more than one chunk both ways, edges cut short


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stack(tmp_path / "a.h5", HELD)


def fields(path: Path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        return {name: np.asarray(item[()]).tobytes() for name, item in file.items()}


def test_plain_h5py_reads_the_same_numbers(path: Path, tmp_path: Path) -> None:
    """Guards the chunks that are packed without HDF5: HDF5 itself unpacks them, and asks their checksums."""
    before, key = fields(path), open_stack(path).key
    assert compress(str(path), out=str(tmp_path / "b.h5")) == tmp_path / "b.h5"
    assert fields(tmp_path / "b.h5") == before == fields(path)
    with h5py.File(tmp_path / "b.h5") as file:
        data = file["features"]
        assert (data.compression, data.shuffle, data.fletcher32, data.chunks) == ("gzip", True, True, CHUNK)
    assert open_stack(tmp_path / "b.h5").key == key


def test_readers_cannot_tell(path: Path) -> None:
    """Guards in-place compression: every way to read a stack gives what it gave, and less is on the disk."""
    plain = open_stack(path)
    X, mask = np.array(plain.X), plain.split == 2
    compress(str(path))
    packed = open_stack(path)
    assert np.array_equal(np.asarray(packed.X), X) and packed.X.dtype == X.dtype and packed.X.shape == X.shape
    assert np.array_equal(packed.select("test").X, X[mask])
    assert np.array_equal(packed.take(np.array([69, 3, 3])).X, X[[69, 3, 3]])
    assert np.array_equal(packed.columns(4000, 4200), X[:, 4000:4200])
    assert np.array_equal(packed.pooled("max"), plain.pooled("max"))
    assert verify(str(path), rows_only=True)["rows"] == len(X)
    assert not list(path.parent.glob("*.layout"))


def test_float16(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards rounding that is said, has checksums of its own, and another key; a stack never loses digits in place."""
    with pytest.raises(Refused, match="--float16 drops digits.*--out FILE"):
        compress(str(path), float16=True)
    half = open_stack(compress(str(path), out=str(tmp_path / "half.h5"), float16=True))
    with h5py.File(half.path) as file:
        assert file["features"].dtype == np.float16
    assert half.X[:].dtype == half.columns(0, 3).dtype == np.float32
    assert np.array_equal(half.X[:], HELD["features"].astype("f2").astype("f4"))
    assert verify(str(half.path), rows_only=True)["rows"] == len(half)
    assert half.attrs["dtype"] == "float16" and half.key != open_stack(path).key
    whole = open_stack(path).X[:].astype("f8")
    lost = np.linalg.norm(whole - half.X[:], axis=1) / np.linalg.norm(whole, axis=1)
    assert half.attrs["rounding_error"] == pytest.approx(lost.max(), rel=1e-6) and 0 < lost.max() < 1e-3
    assert f"rows are up to {lost.max():.1e} of their length away" in capsys.readouterr().err


def test_numbers_beyond_float16(tmp_path: Path) -> None:
    """Guards against infinities that nobody asked for."""
    features = HELD["features"].copy()
    features[67, 4321] = 70_000
    large = stack(tmp_path / "large.h5", {**HELD, "features": features})
    with pytest.raises(Refused, match=r"row 67 \(class1/é67.png\) .* above 65,504"):
        compress(str(large), out=str(tmp_path / "half.h5"), float16=True)
    assert [file.name for file in tmp_path.glob("*.h5*")] == ["large.h5"]


def test_numbers_too_small_for_float16(tmp_path: Path) -> None:
    """Guards rows of tiny numbers, which float16 would turn into zeros: refused, and no file is left."""
    held = contents(rows=70)
    held["features"][67] *= 1e-11
    small = stack(tmp_path / "small.h5", held)
    with pytest.raises(Refused, match=r"row 67 \(class1/é67.png\) .* so small that float16 would lose 100.0% of it"):
        compress(str(small), out=str(tmp_path / "half.h5"), float16=True)
    assert [file.name for file in tmp_path.glob("*.h5*")] == ["small.h5"]


def test_a_damaged_row_is_not_sealed_in(path: Path) -> None:
    """Guards against a stack whose damage is compressed and gets a checksum that says it is fine."""
    with h5py.File(path, "r+") as file:
        file["features"][66, 17] += 1
    before = path.read_bytes()
    with pytest.raises(Failed, match="is damaged: row 66. Mend it: python -m extract photos"):
        compress(str(path))
    assert path.read_bytes() == before and len(list(path.parent.glob("*.h5*"))) == 1


def test_a_flipped_bit_in_a_chunk(path: Path) -> None:
    """Guards the checksum over packed bytes: HDF5 refuses the chunk, and `verify` says from which row on."""
    compress(str(path))
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info_by_coord((64, 0))
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    with pytest.raises(Failed, match="is damaged: rows from 0 on cannot be read"):
        verify(str(path))


def test_a_stack_that_is_replaced_before_its_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the order: what another writer made of the stack until it let go of the lock is what is compressed."""
    other = contents(rows=9, shape=(1, 5, 1000), seed=1)
    stack(path.parent / "other.h5", other)

    @contextmanager
    def late(target: Path) -> Iterator[None]:
        (path.parent / "other.h5").rename(path)
        with writer_lock(target):
            yield

    monkeypatch.setattr(compression, "writer_lock", late)
    assert np.array_equal(open_stack(compress(str(path))).X[:], other["features"])


@pytest.mark.parametrize("level", [0, 10])
def test_levels_of_gzip(path: Path, level: int) -> None:
    with pytest.raises(Refused, match=f"--level {level}: gzip takes 1 to 9"):
        compress(str(path), level=level)


@pytest.mark.parametrize("data", [b"\0" * 6, b"\xff" * 4, b"odd", b"\0\1\xff\xfe", bytes(range(256)) * 4000])
def test_fletcher32(tmp_path: Path, data: bytes) -> None:
    """Guards the sums against HDF5's: it reads a chunk whose checksum is ours, and none with another."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, wrong in (("ours", 0), ("wrong", 1 << 9)):
            chunk = file.create_dataset(name, (len(data),), "u1", chunks=(len(data),), fletcher32=True)
            chunk.id.write_direct_chunk((0,), data + (fletcher32(data) ^ wrong).to_bytes(4, "little"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["ours"][:].tobytes() == data
        with pytest.raises(OSError):
            file["wrong"][:]
