"""Images that are no files of their own: in a .tar, a .zip, or an array."""

import hashlib
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from tiny import encoded, rows_of

from extract import extract
from extract.images.dataset import scan
from extract.images.decode import decode
from features import Failed, Refused, open_stack, verify
from features.archive import open_source
from features.source import Unreadable

SETTINGS: dict[str, Any] = {"backbone": "scattering", "size": 32, "layer": "scale1", "batch": 4, "max_bad": 50}


def packed(folder: Path, kind: str) -> Path:
    """The files of a folder in an archive beside it, in an order of its own."""
    target = folder.with_name(f"{folder.name}.{kind.split('-')[0]}")
    files = sorted((path for path in folder.rglob("*.*")), key=lambda path: path.name)
    if kind == "tar":
        with tarfile.open(target, "w") as tar:
            for path in files:
                tar.add(path, f"./{path.relative_to(folder)}")
    else:
        method = zipfile.ZIP_STORED if kind == "zip-stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(target, "w", method) as packed:
            for path in files:
                packed.write(
                    path, f"photos/{path.relative_to(folder)}" if kind == "zip-top" else path.relative_to(folder)
                )
    return target


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar", "zip", "zip-stored", "zip-top"])
def test_an_archive_gives_the_rows_of_its_folder(photo_folder: Path, tmp_path: Path, kind: str) -> None:
    """Guards archives: features, labels, splits and hashes are those of the same files in a folder, bit for bit."""
    files = extract(str(photo_folder), out=str(tmp_path / "files.h5"), **SETTINGS)
    stack = extract(str(packed(photo_folder, kind)), out=str(tmp_path / "packed.h5"), **SETTINGS)
    top = "photos/" if kind == "zip-top" else ""
    assert open_stack(stack).paths == [top + path for path in open_stack(files).paths]
    expected, got = rows_of(files), rows_of(stack)
    for name in expected.keys() - {"paths", "mtime_ns", "fingerprint"}:
        assert got[name] == expected[name], name
    assert verify(str(stack))["images"] == 18


@pytest.mark.slow
@pytest.mark.parametrize("colours", [3, 1])
def test_an_array_gives_the_rows_of_its_images(tmp_path: Path, colours: int) -> None:
    """Guards arrays: the rows of the same pixels as PNG files, in the array's order, with the labels beside it."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 30, colours), "u1")
    for i, image in enumerate(pixels):
        (tmp_path / "png" / f"c{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if colours == 3 else image[..., 0]).save(tmp_path / "png" / f"c{i % 2}" / f"{i:02d}.png")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["some/images"] = pixels if colours == 3 else pixels[..., 0]
        file["some/labels"] = [f"c{i % 2}" for i in range(12)]
    files = open_stack(extract(str(tmp_path / "png"), out=str(tmp_path / "files.h5"), **SETTINGS))
    stack = open_stack(extract(f"{tmp_path}/x.h5::some/images", out=str(tmp_path / "array.h5"), **SETTINGS))
    assert stack.paths == [f"{i:02d}" for i in range(12)] and stack.label_names == ["c0", "c1"]
    order = np.argsort([path[-6:-4] for path in files.paths])
    assert np.array_equal(stack.X, files.X[order]) and np.array_equal(stack.y, files.y[order])
    np.save(tmp_path / "x.npy", pixels)
    assert np.array_equal(
        open_stack(extract(str(tmp_path / "x.npy"), out=str(tmp_path / "npy.h5"), **SETTINGS)).X, stack.X
    )


def test_an_image_of_an_array_is_a_ppm_file(tmp_path: Path) -> None:
    """Guards the hash that FORMAT.md specifies, and that no pixel is changed."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), "u1")
    np.save(tmp_path / "x.npy", pixels)
    file = open_source(tmp_path / "x.npy").read("2")
    assert file.data == encoded(Image.fromarray(pixels[2]), "PPM")
    assert file.sha256.tobytes() == hashlib.sha256(file.data).digest()
    assert np.array_equal(np.asarray(decode(file.data)), pixels[2])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 3, 4, 4), "u1"),
            r"uint8 of shape \(2, 3, 4, 4\); expected uint8 of shape \(images, height,",
        ),
        (np.zeros((2, 4, 4, 3), "f4"), r"float32 of shape"),
        (np.zeros((2, 4), "u1"), r"of shape \(2, 4\)"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: np.ndarray, message: str) -> None:
    """Guards channels first, values of 0–1 and vectors: shape and type are named."""
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(Refused, match=message):
        scan(str(tmp_path / "x.npy"))


def test_datasets_that_are_not_there(tmp_path: Path) -> None:
    """Guards the messages: no such file, no such dataset and which there are, no HDF5 at all."""
    with pytest.raises(Refused, match=r"no dataset at .*x\.h5::images: no such file"):
        scan(f"{tmp_path}/x.h5::images")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train/images"] = np.zeros((2, 4, 4, 3), "u1")
    with pytest.raises(Refused, match=r"has no dataset 'images'; there are: train/images\. Give DATA=.*x\.h5::NAME"):
        scan(f"{tmp_path}/x.h5::images")
    (tmp_path / "y.h5").write_text("no HDF5")
    with pytest.raises(Refused, match=r"y\.h5 cannot be opened"):
        scan(f"{tmp_path}/y.h5::images")


def test_archives_that_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    """Guards against members that lie outside, a file that is cut off, and one that has to be read from its start."""
    for name in ("../x.png", "/x.png"):
        with zipfile.ZipFile(tmp_path / "out.zip", "w") as file:
            file.writestr(name, b"")
        with pytest.raises(Refused, match=r"out\.zip: .*x\.png would lie outside of it"):
            scan(str(tmp_path / "out.zip"))
    whole = packed(photo_folder, "tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(Failed, match=r"cut\.tar (is truncated|cannot be read as a \.tar file)"):
        scan(str(tmp_path / "cut.tar"))
    (tmp_path / "no.zip").write_text("no zip")
    with pytest.raises(Failed, match=r"no\.zip cannot be read as a \.zip file"):
        scan(str(tmp_path / "no.zip"))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as file:
        file.add(photo_folder, "photos")
    with pytest.raises(Refused, match="is compressed as a whole, .* Unpack it, or make a .tar or .zip"):
        scan(str(tmp_path / "a.tar.gz"))


def test_members_that_cannot_be_read(photo_folder: Path) -> None:
    """Guards a wrong CRC and an encrypted member: these images are rejected with a reason, and no others."""
    path = packed(photo_folder, "zip-stored")
    with zipfile.ZipFile(path) as file:
        infos = sorted(file.infolist(), key=lambda info: info.filename)
    data = bytearray(path.read_bytes())
    data[infos[0].header_offset + 200] ^= 1
    at = data.rindex(b"PK\1\2", 0, data.rindex(infos[1].filename.encode()))
    struct.pack_into("<H", data, at + 8, 1)  # the flag of an encrypted member, in the central directory …
    struct.pack_into("<H", data, infos[1].header_offset + 6, 1)  # … and in front of it
    path.write_bytes(data)
    source = open_source(path)
    for info, reason in ((infos[0], "Bad CRC-32"), (infos[1], "encrypted")):
        with pytest.raises(Unreadable, match=f"it cannot be read from photos.zip: .*{reason}"):
            source.read(info.filename)
    assert source.read(infos[2].filename).data == (photo_folder / infos[2].filename).read_bytes()
    with pytest.raises(Unreadable, match="No such file"):
        source.read("nothing.png")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_threads_read_an_archive_at_once(photo_folder: Path, kind: str) -> None:
    """Guards the thread pool that decodes: each gets the bytes of its own member."""
    source = open_source(packed(photo_folder, kind))
    paths = [path.relative_to(photo_folder).as_posix() for path in photo_folder.rglob("*.*")] * 20
    with ThreadPoolExecutor(8) as readers:
        for path, file in zip(paths, readers.map(source.read, paths), strict=True):
            assert file.data == (photo_folder / path).read_bytes()


def test_links_in_a_tar_lead_to_their_files(photo_folder: Path, tmp_path: Path) -> None:
    """Guards archives of deduplicated folders: hard and symbolic links are images, one that leads nowhere is named."""
    first = sorted(photo_folder.rglob("*.png"))[0]
    (first.parent / "hard.png").hardlink_to(first)
    (first.parent / "soft.png").symlink_to(first.name)
    (first.parent / "out.png").symlink_to("/etc/hostname")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(photo_folder, ".")
    listing = scan(str(tmp_path / "x.tar"))
    name = first.relative_to(photo_folder).as_posix()
    links = [f"{first.parent.name}/{kind}.png" for kind in ("hard", "soft", "out")]
    assert {name, *links} <= set(listing.paths) and len(listing.paths) == 18 + 3
    wanted = listing.source.read(name).data
    assert [listing.source.read(link).data for link in links[:2]] == [wanted, wanted]
    with pytest.raises(Unreadable, match="No such file"):
        listing.source.read(links[2])


@pytest.mark.parametrize("name", ["photos.tar", "photos.zip", "a::b"])
def test_a_folder_may_have_any_name(photo_folder: Path, name: str) -> None:
    """Guards folders that are called as an archive is: they are folders."""
    assert len(scan(str(photo_folder.rename(photo_folder.with_name(name)))).paths) == 18


def test_labels_beside_an_array(tmp_path: Path) -> None:
    """Guards what is taken for labels: a value for each image, negative ones for none; another length is refused."""
    pixels = np.zeros((6, 8, 8, 3), "u1")
    for i, (labels, names, codes) in enumerate(
        [
            ([0, 1, -1, 1, 0, 0], ["0", "1"], [0, 1, -1, 1, 0, 0]),
            (np.array([b"caf\xe9", b"tea"] * 3, h5py.string_dtype("ascii", 4)), None, None),
            ([0, 1], None, None),
        ]
    ):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["images"], file["labels"] = pixels, labels
        data = str(tmp_path / f"{i}.h5::images")
        if names is None:
            with pytest.raises(Refused, match=r"not UTF-8|/labels has shape \(2,\) and the images \(6, 8, 8, 3\)"):
                scan(data)
        else:
            listing = scan(data)
            assert (listing.label_names, listing.labels.tolist()) == (names, codes)
