"""Datasets by name, from a server of our own: a small archive in Food-101's layout, and all that can go wrong."""

import dataclasses
import hashlib
import io
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import environment

from extract import extract
from extract.images.dataset import NAMED
from extract.images.digits import render_digits
from extract.images.download import FOOD101, Archive, fetch
from features import Failed, Refused, open_stack
from features.runtime.lock import writer_lock


class Server(ThreadingHTTPServer):
    """Serves one file's bytes; `ranges`: whether from the middle too; `cuts`: bytes after which answers break off."""

    content: bytes
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        whole, wanted = self.server.content, self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(whole) - start))
        self.end_headers()
        self.wfile.write(whole[start:][: self.server.cuts.pop(0) if self.server.cuts else None])

    def log_message(self, format: str, *args: object) -> None:
        pass


def packed(*extra: tarfile.TarInfo) -> bytes:
    """An archive of two classes in Food-101's layout, three photos each, and members that do not belong there."""
    held = io.BytesIO()
    random = np.random.default_rng(0)
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        files = {"meta/classes.txt": "apple_pie\nbaklava\n", "meta/train.txt": "", "meta/test.txt": ""}
        for kind in ("apple_pie", "baklava"):
            for i in range(3):
                photo = io.BytesIO()
                Image.fromarray(random.integers(0, 256, (40, 40, 3), "u1")).save(photo, "JPEG")
                add(tar, f"food-101/images/{kind}/{i}.jpg", photo.getvalue())
                files[f"meta/{'test' if i == 2 else 'train'}.txt"] += f"{kind}/{i}\n"
        for name, text in files.items():
            add(tar, f"food-101/{name}", text.encode())
        for member in extra:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return held.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        serving.content = packed()
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


def archive(server: Server) -> Archive:
    """As it would stand in the table."""
    content = server.content
    url = f"http://127.0.0.1:{server.server_port}/food-101.tar.gz"
    return Archive("food101", url, len(content), hashlib.md5(content).hexdigest(), "food-101")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_dataset_by_its_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`python -m extract food101`: downloaded, checked, unpacked, listed; the second time all of it is there."""
    monkeypatch.chdir(tmp_path)
    small = archive(server)
    monkeypatch.setitem(NAMED, "food101", lambda: fetch(small))
    stack = open_stack(extract("food101", "scattering", size=32, layer="scale3"))
    assert stack.path.name == "food101-scattering-scale3-32px.h5"
    assert (len(stack), len(stack.select("test")), stack.label_names) == (6, 2, ["apple_pie", "baklava"])
    assert names(tmp_path / "data") == {"food101", "food-101.tar.gz"}
    said = capfd.readouterr().err
    assert "downloaded" in said and "unpacked 9 files to data/food101; data/food-101.tar.gz" in said
    fetch(small)
    assert server.asked == [None]


def test_the_table_has_what_is_published() -> None:
    """The name people type, and the checksum that torchvision publishes for the archive."""
    assert set(NAMED) == {"digits", "food101"}
    assert (FOOD101.size, FOOD101.md5) == (4_996_278_331, "85eeb15f3717b99a5da872d97d918f87")


def test_a_broken_connection_goes_on(server: Server, tmp_path: Path) -> None:
    """50: cut twice, the rest is asked for from where it stopped, and the photos are those of the archive."""
    server.cuts = [1000, 500]
    folder = fetch(archive(server), tmp_path)
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]
    with tarfile.open(fileobj=io.BytesIO(server.content)) as tar:
        file = tar.extractfile("food-101/images/baklava/2.jpg")
        assert file is not None and (folder / "images/baklava/2.jpg").read_bytes() == file.read()


def test_a_later_run_goes_on(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """50: a server that brings nothing more ends the run; what came is kept, and the same command goes on from it."""
    small = archive(server)
    server.cuts = [1000, 0]
    with pytest.raises(Failed, match=r"the connection broke at 1,000 bytes of .* Run the command again to go on"):
        fetch(small, tmp_path)
    assert (tmp_path / "food-101.tar.gz.partial").read_bytes() == server.content[:1000]
    assert fetch(small, tmp_path).is_dir()
    assert server.asked[2:] == ["bytes=1000-"]
    assert "going on with" in capfd.readouterr().err


def test_a_server_that_cannot_go_on(server: Server, tmp_path: Path) -> None:
    """Without ranges the whole file comes again, over what was there."""
    server.ranges, server.cuts = False, [1000]
    assert fetch(archive(server), tmp_path).is_dir()
    assert server.asked == [None, "bytes=1000-"]


def test_another_file_than_was_published(server: Server, tmp_path: Path) -> None:
    """49: wrong bytes are removed, and nothing of them is unpacked; a file of another size is not even taken."""
    small = archive(server)
    with pytest.raises(Failed, match=r"has MD5 \w+, expected 0+\. It was removed; give a folder of images"):
        fetch(dataclasses.replace(small, md5="0" * 32), tmp_path)
    assert names(tmp_path) == set()
    with pytest.raises(Failed, match=rf"has {small.size:,} bytes, expected {small.size - 1:,}"):
        fetch(dataclasses.replace(small, size=small.size - 1), tmp_path)
    assert names(tmp_path) == set()


def test_a_file_put_there_by_hand(server: Server, tmp_path: Path) -> None:
    """Taken without asking the server if it is the published one; else kept, and said."""
    small = archive(server)
    (tmp_path / "food-101.tar.gz").write_bytes(server.content[:-1])
    with pytest.raises(Failed, match=rf"MD5 \w+, expected {small.md5}. It is kept: replace or remove it"):
        fetch(small, tmp_path)
    (tmp_path / "food-101.tar.gz").write_bytes(server.content)
    assert names(fetch(small, tmp_path)) == {"images", "meta"}
    assert server.asked == []


def test_no_network(tmp_path: Path) -> None:
    """What to get, where to put it, and the ways that need none."""
    nowhere = Archive("food101", "http://127.0.0.1:9/food-101.tar.gz", 1000, "0" * 32, "food-101")
    with pytest.raises(Failed) as caught:
        fetch(nowhere, tmp_path)
    said = str(caught.value)
    assert "refused" in said and f"put it at {tmp_path}/food-101.tar.gz (1,000 bytes, MD5 {'0' * 32})" in said
    assert nowhere.url in said and "DATA=digits" in said


def test_an_address_that_is_gone(server: Server, tmp_path: Path) -> None:
    """An HTTP error is said at once, with the way on."""
    with pytest.raises(Failed, match=r"cannot be downloaded \(HTTP Error 501.* put it at"):
        Handler.do_GET, kept = lambda self: self.send_error(501), Handler.do_GET
        try:
            fetch(archive(server), tmp_path)
        finally:
            Handler.do_GET = kept


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def fifo(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.FIFOTYPE
    return member


@pytest.mark.parametrize(
    ("member", "what"),
    [
        (lambda outside: tarfile.TarInfo("../escaped.txt"), "would land outside of its folder"),
        (lambda outside: tarfile.TarInfo("food-101/images/../../../escaped.txt"), "would land outside of its folder"),
        (lambda outside: tarfile.TarInfo(str(outside)), "would land outside of its folder"),
        (lambda outside: link("food-101/to", str(outside)), "is a link"),
        (lambda outside: link("food-101/to", "images"), "is a link"),
        (lambda outside: link("food-101/to", "../../escaped.txt", tarfile.LNKTYPE), "is a link"),
        (lambda outside: fifo("food-101/pipe"), "is no file"),
    ],
    ids=["parent", "hidden parent", "absolute", "link out", "link in", "hard link", "pipe"],
)
def test_members_that_would_escape(
    server: Server, tmp_path: Path, member: Callable[[Path], tarfile.TarInfo], what: str
) -> None:
    """48: the archive is named with the member, nothing of it is left, and nothing is written elsewhere."""
    server.content = packed(member(tmp_path / "escaped.txt"))
    (tmp_path / "data").mkdir()
    with pytest.raises(Failed, match=rf"food-101.tar.gz: .* {what}; nothing was unpacked"):
        fetch(archive(server), tmp_path / "data")
    assert names(tmp_path) == {"data"} and names(tmp_path / "data") == {"food-101.tar.gz"}


def test_an_archive_of_something_else(server: Server, tmp_path: Path) -> None:
    """Right by its checksum, and still no archive, or not of this dataset."""
    with pytest.raises(Failed, match="holds no folder other"):
        fetch(dataclasses.replace(archive(server), inside="other"), tmp_path)
    server.content = b"no archive" * 100
    with pytest.raises(Failed, match=r"food-101.tar.gz cannot be unpacked: "):
        fetch(archive(server), tmp_path / "again")
    server.content = packed()[:-200]
    with pytest.raises(Failed, match=r"food-101.tar.gz cannot be unpacked: "):
        fetch(archive(server), tmp_path / "half")
    assert names(tmp_path / "half") == {"food-101.tar.gz"}


def test_too_little_disk(server: Server, tmp_path: Path) -> None:
    """Met before the first byte is asked for, with both sizes."""
    more = shutil.disk_usage(tmp_path).free
    with pytest.raises(Failed, match=r"food101 needs [\d.]+ GB in .*, where [\d.]+ GB are free"):
        fetch(dataclasses.replace(archive(server), size=more), tmp_path)
    assert server.asked == [] and names(tmp_path) == set()


def test_a_second_process_is_refused(server: Server, tmp_path: Path) -> None:
    """Two downloads into one file would mix."""
    with writer_lock(tmp_path / "food101"), pytest.raises(Refused, match="is being written by process"):
        fetch(archive(server), tmp_path)


def test_another_process_was_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against work done twice, over a dataset in use: whoever comes second to the lock looks again."""

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        (folder / "0").mkdir(parents=True)  # by the process that had the lock until now
        with writer_lock(folder):
            yield

    for module in ("download", "digits"):
        monkeypatch.setattr(f"extract.images.{module}.writer_lock", late)
    assert names(fetch(archive(server), tmp_path)) == {"0"} and server.asked == []
    assert names(render_digits(tmp_path / "digits")) == {"0"}


def test_two_first_uses_of_the_digits(tmp_path: Path) -> None:
    """Guards against half a dataset for ever: a second process does not clear away what the first is writing."""
    (tmp_path / "digits.partial").mkdir()
    with writer_lock(tmp_path / "digits"), pytest.raises(Refused, match="digits is being written by process"):
        render_digits(tmp_path / "digits")
    assert names(tmp_path) == {"digits.partial"}
    assert len(list(render_digits(tmp_path / "digits").rglob("*.png"))) == 1797
    assert names(tmp_path) == {"digits"}


def test_a_kill_while_it_unpacks(server: Server, tmp_path: Path) -> None:
    """50: half of the files never bear the dataset's name; the next run unpacks them all."""
    many = [tarfile.TarInfo(f"food-101/images/apple_pie/more{i}.jpg") for i in range(5_000)]
    server.content = packed(*many)
    small = archive(server)
    program = f"from pathlib import Path; from extract.images.download import *; fetch({small!r}, Path('data'))"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment())
    inside = tmp_path / "data" / "food101.partial" / "food-101" / "images" / "apple_pie"
    while not (inside / "more10.jpg").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "data" / "food101").exists()
    folder = fetch(small, tmp_path / "data")
    assert len(names(folder / "images" / "apple_pie")) == 5_003
    assert names(tmp_path / "data") == {"food101", "food-101.tar.gz"}
    assert server.asked == [None]
