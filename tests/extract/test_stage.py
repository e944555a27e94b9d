import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import warm
from PIL import Image
from tiny import flip, photos, run

from extract import BACKBONES, extract
from extract.network.base import load_base
from extract.network.engines import choose_engine
from extract.network.importing import import_keras
from features import Failed, Refused, open_stack, verify
from features.layout import offsets, partial_path

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"backbone": "vgg16", "size": 32, "batch": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(photos, finished stack, weights file): 18 images through a VGG16 whose random weights come from a file."""
    folder = tmp_path_factory.mktemp("made")
    base, _ = load_base(BACKBONES["vgg16"], "random", 32, seed=1)
    base.save_weights(folder / "vgg.weights.h5")
    data = photos(folder / "photos")
    stack = extract(str(data), weights=str(folder / "vgg.weights.h5"), out=str(folder / "a.h5"), **SETTINGS)
    return data, stack, str(folder / "vgg.weights.h5")


@pytest.fixture
def mine(made: tuple[Path, Path, str], tmp_path: Path) -> tuple[Path, Path, str]:
    """The same, copied (times and all), to be meddled with."""
    data, stack, weights = made
    return (
        Path(shutil.copytree(data, tmp_path / "photos")),
        Path(shutil.copy2(stack, tmp_path / "a.h5")),
        weights,
    )


def again(mine: tuple[Path, Path, str], **changes: Any) -> Path:
    data, stack, weights = mine
    return extract(str(data), **{**SETTINGS, "weights": weights, "out": str(stack), **changes})


def close(got: np.ndarray, expected: np.ndarray) -> None:
    """max|a−b| ≤ 1e-4 · max|b| for each row."""
    assert got.shape == expected.shape
    for a, b in zip(got, expected, strict=True):
        assert np.abs(b).max() > 0
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_rows_are_plain_keras(made: tuple[Path, Path, str]) -> None:
    """Guards the numbers and their order: plain Pillow, plain Keras, plain h5py."""
    data, stack, weights = made
    keras = import_keras()
    plain = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    plain.load_weights(weights)
    paths = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.*"))
    images = [Image.open(data / path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR) for path in paths]
    pixels = np.array([np.array(image, "float32") for image in images])
    expected = np.asarray(plain(keras.applications.vgg16.preprocess_input(pixels), training=False)).reshape(18, -1)
    with h5py.File(stack, "r") as file:
        close(file["features"][:], expected)
        assert file["paths"].asstr()[:].tolist() == paths
        assert file["labels"][:].tolist() == [0] * 6 + [1] * 6 + [2] * 6
        hashes = [hashlib.sha256((data / path).read_bytes()).digest() for path in paths]
        assert [image.tobytes() for image in file["sha256"][:]] == hashes
        assert [(file["split"][:] == 2)[6 * i : 6 * i + 6].sum() for i in range(3)] == [2, 2, 2]
        assert file.attrs["weights_sha256"] == hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        assert file.attrs["engine"] == choose_engine("auto", "cpu", "f32")[0].recorded
        assert (file.attrs["dataset_root"], file.attrs["weights_file"]) == (str(data), weights)
        assert json.loads(file.attrs["versions"])["keras"] == keras.__version__
        assert file.attrs["command"].startswith(
            f"python -m extract {data} --weights {weights} --size 32 --batch 4 --out "
        )
    assert verify(str(stack))["images"] == 18


def test_real_photos_and_weights(shared: Path, tmp_path: Path) -> None:
    """Guards issue 2's 'Done when' 2 on 12 real photos: width 62,720, each row what plain Keras computes."""
    root, weights = shared / "data" / "food101-10", shared / "weights" / "mobilenet_v2_imagenet_int8.weights.h5"
    names = [name for split in ("train", "test") for name in (root / "meta" / f"{split}.txt").read_text().split()]
    lines, chosen = ["path,label,split"], names[::417]
    for i, name in enumerate(chosen):
        (tmp_path / f"{i:02}.jpg").symlink_to(root / "images" / f"{name}.jpg")
        lines.append(f"{i:02}.jpg,{name.split('/')[0]},{'test' if i % 3 == 0 else 'train'}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    stack = extract(
        str(tmp_path / "list.csv"), "mobilenetv2", weights=str(weights), batch=8, out=str(tmp_path / "a.h5")
    )
    keras = import_keras()
    plain = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(224, 224, 3))
    plain.load_weights(weights)
    with h5py.File(stack, "r") as file:
        assert file["features"].shape == (len(chosen), 62_720)
        assert len(chosen) >= 12
        rows = dict(zip(file["paths"].asstr()[:], file["features"][:], strict=True))
    for i, name in enumerate(chosen):
        image = Image.open(root / "images" / f"{name}.jpg").convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        expected = np.asarray(plain(np.array(image, "float32")[None] / 127.5 - 1, training=False))
        close(rows[f"{i:02}.jpg"][None], expected.reshape(1, -1))


def test_a_rerun_does_nothing(made: tuple[Path, Path, str], tmp_path: Path) -> None:
    """Guards the second run: no Keras, no TensorFlow, not a byte written, the path alone on stdout."""
    data, stack, weights = made
    before = (stack.read_bytes(), stack.stat().st_mtime_ns)
    words = [str(data), *("--weights", weights, "--size", "32", "--batch", "4", "--out", str(stack))]
    program = "import atexit, sys, runpy\n"
    program += (
        "atexit.register(lambda: print(sorted({'keras', 'tensorflow', 'jax'} & set(sys.modules)), file=sys.stderr))\n"
    )
    program += f"sys.argv[1:] = {words!r}; runpy.run_module('extract', run_name='__main__')"
    (tmp_path / "again.py").write_text(program)
    done = run("again", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{stack}\n"), done.stderr
    assert done.stderr.splitlines() == [f"{stack} is up to date, nothing to do", "[]"]
    assert (stack.read_bytes(), stack.stat().st_mtime_ns) == before
    assert not list(stack.parent.glob("a.h5.*"))


def test_touched_files_are_hashed_not_refused(mine: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against staleness by time: a new mtime over the same bytes changes nothing."""
    os.utime(mine[0] / "class0" / "0.png", ns=(1, 1))
    assert again(mine) == mine[1]
    assert "is up to date, nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layer": "block4_pool"}, "layer: block5_pool in the stack, block4_pool asked for"),
        ({"size": 64}, "input_size: 32 in the stack, 64 asked for"),
        ({"backbone": "vgg19"}, "backbone: vgg16 in the stack, vgg19 asked for"),
        ({"weights": "random"}, "weights: vgg.weights.h5 in the stack, random asked for"),
        ({"precision": "bf16"}, "precision: f32 in the stack, bf16 asked for"),
        ({"resize": "crop"}, "resize: squash in the stack, crop asked for"),
        ({"filter": "bicubic"}, "resize_filter: bilinear in the stack, bicubic asked for"),
    ],
)
def test_other_settings_are_refused(made: tuple[Path, Path, str], changes: dict[str, Any], line: str) -> None:
    """Guards against a stack that is taken for another one's: the setting is named with both values."""
    with pytest.raises(Refused) as caught:
        again(made, **changes)
    assert f"  {line}\n" in str(caught.value)


def test_another_weights_file_is_refused(made: tuple[Path, Path, str], tmp_path: Path) -> None:
    """Guards weights by content and not by name."""
    copy = tmp_path / "vgg.weights.h5"
    shutil.copy(made[2], copy)
    assert again(made, weights=str(copy)) == made[1]
    flip(copy, copy.stat().st_size // 2)
    with pytest.raises(Refused, match="weights_sha256: [0-9a-f]{64} in the stack, [0-9a-f]{64} asked for"):
        again(made, weights=str(copy))


def killed_before_the_rename(stack: Path) -> Path:
    """What a SIGKILL just before the rename leaves."""
    return stack.rename(partial_path(stack))


def test_resume_computes_what_is_missing(
    mine: tuple[Path, Path, str], made: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards resume: a torn row is computed again to the same bits; an image changed meanwhile gets its new row."""
    data, stack, _ = mine
    partial = killed_before_the_rename(stack)
    flip(partial, offsets(partial)["features"] + 512 * 4 * 5)
    Image.new("RGB", (30, 30), "red").save(data / "class2" / "4.png")
    again(mine, batch=8)
    assert "resuming " in capsys.readouterr().err
    old, new = open_stack(made[1]), open_stack(stack)
    row = new.paths.index("class2/4.png")
    others = np.arange(18) != row
    assert np.array_equal(old.X[others], new.X[others])
    assert not np.array_equal(old.X[row], new.X[row])
    assert new.attrs["batch"] == 4
    image = hashlib.sha256((data / "class2" / "4.png").read_bytes()).digest()
    assert new.field("sha256")[row].tobytes() == image


def test_a_stack_from_before_scaled_decoding_stays_what_it_is(
    mine: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards old stacks: without the attribute `decode` they are up to date, and go on with JPEGs decoded in full."""
    data, stack, _ = mine
    waves = np.add.outer(np.arange(300), np.arange(400))[..., None] * [1, 2, 3] % 251
    Image.fromarray(waves.astype("u1")).save(data / "class0" / "1.jpg", quality=90)
    stack.unlink()
    again(mine)
    scaled = open_stack(stack)
    row, before, key = scaled.paths.index("class0/1.jpg"), scaled.X[:].copy(), scaled.key
    stack.unlink()
    Image.open(data / "class0" / "1.jpg").save(data / "class0" / "1.png")
    (data / "class0" / "1.jpg").rename(data / "1.jpg")
    again(mine)
    full = open_stack(stack).X[open_stack(stack).paths.index("class0/1.png")].copy()
    assert 0 < np.abs(full - before[row]).max() < 0.1 * np.abs(full).max()
    stack.unlink()
    (data / "1.jpg").rename(data / "class0" / "1.jpg")
    (data / "class0" / "1.png").unlink()
    again(mine)
    with h5py.File(stack, "r+") as file:
        assert file.attrs["decode"] == "scaled-srgb"
        del file.attrs["decode"]
    assert open_stack(stack).key != key
    capsys.readouterr()
    again(mine)
    assert "up to date" in capsys.readouterr().err
    partial = killed_before_the_rename(stack)
    flip(partial, offsets(partial)["row_crc32"] + 4 * row)
    again(mine)
    close(open_stack(stack).X[row][None], full[None])


def test_crop_pad_and_filter_reach_the_rows(mine: tuple[Path, Path, str], tmp_path: Path) -> None:
    """Guards `--resize` and `--filter` on their way: the rows of photos cropped and resized by plain Pillow."""
    data, _, weights = mine
    for path in data.rglob("*.*"):
        image = Image.open(path).convert("RGB")
        side, target = min(image.size), tmp_path / "cropped" / path.relative_to(data).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image.crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.LANCZOS).save(target)
    ready = again((tmp_path / "cropped", tmp_path / "b.h5", weights))
    cropped = open_stack(again((data, tmp_path / "c.h5", weights), resize="crop", filter="lanczos"))
    assert (cropped.attrs["resize"], cropped.attrs["resize_filter"]) == ("crop", "lanczos")
    close(cropped.X[:], open_stack(ready).X[:])


def test_resume_with_something_else_is_refused(mine: tuple[Path, Path, str]) -> None:
    """Guards one file against two sources: other settings or images do not go into a begun stack."""
    data, stack, _ = mine
    partial = killed_before_the_rename(stack)
    before = partial.read_bytes()
    with pytest.raises(Refused, match=r"a\.h5\.partial was made from something else:\n  layer: .*\nRemove"):
        again(mine, layer="block4_pool")
    for folder in sorted(data.iterdir()):
        shutil.rmtree(folder)
    for folder in sorted(photos(data, seed=9).iterdir()):
        folder.rename(data / f"other-{folder.name}")
    with pytest.raises(Refused, match="not one of its images is in the dataset any more"):
        again(mine)
    assert partial.read_bytes() == before


def test_what_a_late_kill_leaves_is_cleared(mine: tuple[Path, Path, str]) -> None:
    """Guards the disk: a partial file beside its finished stack (killed between rename and removal) goes."""
    shutil.copy(mine[1], partial_path(mine[1]))
    again(mine)
    assert not partial_path(mine[1]).exists()


def test_rejects(mine: tuple[Path, Path, str], made: tuple[Path, Path, str], tmp_path: Path) -> None:
    """Guards bad images: exit 3 with their reasons, every other row still its own file's, and a rerun says so again."""
    data, stack, weights = mine
    stack.unlink()
    (data / "class0" / "2.png").write_text("a text file")
    (data / "class1" / "1.jpg").write_bytes((data / "class1" / "1.jpg").read_bytes()[:1500])
    (data / "class2" / "5.jpg").write_bytes(b"")
    bad = ["class0/2.png", "class1/1.jpg", "class2/5.jpg"]
    words = ["extract", data, "--weights", weights, "--size", 32, "--batch", 4, "--max-bad", 20, "--out", stack]
    first = warm.run(*words, cwd=tmp_path)
    assert (first.returncode, first.stdout) == (3, f"{stack}\n"), first.stderr
    assert "rejected class0/2.png: not an image in any known format\n" in first.stderr
    assert "rejected class1/1.jpg: cannot be decoded: image file is truncated" in first.stderr
    assert "rejected class2/5.jpg: the file is empty\n" in first.stderr
    assert "3 images were rejected; the stack lists them all in `rejects`" in first.stderr
    assert "\n18 images read, 15 rows written, 3 images rejected, in " in first.stderr
    clean, opened = open_stack(made[1]), open_stack(stack)
    assert [reject[0] for reject in opened.rejects] == bad
    kept = [i for i, path in enumerate(clean.paths) if path not in bad]
    assert opened.paths == [clean.paths[i] for i in kept]
    assert np.array_equal(opened.y, clean.y[kept])
    assert np.array_equal(opened.X, clean.X[kept])
    assert verify(str(stack))["rows"] == 15
    second = warm.run(*words, cwd=tmp_path)
    assert (second.returncode, second.stdout) == (3, f"{stack}\n")
    assert "up to date" in second.stderr
    Image.new("RGB", (30, 30), "red").save(data / "class0" / "2.png")
    again(mine, max_bad=20)
    assert [reject[0] for reject in open_stack(stack).rejects] == bad[1:]


def test_nothing_readable(tmp_path: Path) -> None:
    """Guards against an empty stack."""
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.jpg").write_text("text")
    with pytest.raises(Failed, match=r"not one of the 2 images could be read; the first: a/1\.jpg: not an image"):
        extract(str(tmp_path / "photos"), weights="random", out=str(tmp_path / "a.h5"), **SETTINGS)
    assert not (tmp_path / "a.h5").exists()


def test_a_shell_that_asks_for_keras_2(photo_folder: Path, tmp_path: Path) -> None:
    """Guards users of TensorFlow 2.16, whose shells set this variable; and a size without a layer."""
    words = ("extract", photo_folder, "--backbone", "scattering", "--size", 32, "--out", "a.h5")
    ended = warm.run(*words, cwd=tmp_path, TF_USE_LEGACY_KERAS="1")
    assert (ended.returncode, ended.stdout) == (0, "a.h5\n"), ended.stderr
    assert open_stack(tmp_path / "a.h5").attrs["layer"] == "scale3"


def test_refused_before_any_work(photo_folder: Path, tmp_path: Path) -> None:
    """Guards arguments that cannot be met: said before a file is laid out."""
    out = str(tmp_path / "new" / "a.h5")
    for changes, message in (
        ({"layer": "top"}, "vgg16 has no layer 'top'.* Its layers: block1_conv1 block1_conv2"),
        ({"device": "gpu"}, r"--device gpu: Keras on \w+ sees no GPU\. .* or use --device auto or cpu"),
        ({"device": "tpu"}, "no device is called 'tpu'; there are auto, cpu, gpu"),
        ({"batch": 0}, "--batch 0: give a number from 1 up"),
        ({"size": 0}, "--size 0: give a number from 1 up"),
        ({"seed": -1}, "--seed -1: give a number from 0 up"),
        ({"weights": "gone.h5"}, r"no weights file at gone\.h5"),
        ({"resize": "fit"}, "no resize is called 'fit'; there are squash, crop, pad"),
        ({"filter": "cubic"}, "no filter is called 'cubic'; there are bilinear, bicubic, lanczos, box"),
        ({"backbone": "vgg61"}, r"no backbone is called 'vgg61'\. Did you mean .*vgg16"),
    ):
        if changes == {"device": "gpu"} and import_keras().distribution.list_devices("gpu"):
            continue
        with pytest.raises(Refused, match=message):
            extract(str(photo_folder), out=out, **{**SETTINGS, "weights": "random", **changes})
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []


def test_jax_gives_the_same_rows_but_not_in_one_file(mine: tuple[Path, Path, str], tmp_path: Path) -> None:
    """Guards the second backend: the same rows to 1e-4; a stack begun on TensorFlow is not finished on JAX."""
    pytest.importorskip("jax")
    if import_keras().backend.backend() != "tensorflow":
        pytest.skip("compares JAX with TensorFlow, and Keras runs on another backend here")
    data, stack, weights = mine
    expected, key = open_stack(stack).X[:].copy(), open_stack(stack).key
    stack.unlink()
    again(mine, engine="keras")
    partial = killed_before_the_rename(stack)
    flip(partial, offsets(partial)["row_crc32"])
    words = ["extract", str(data), "--weights", weights, "--size", "32", "--batch", "4", "--out"]
    program = f"""
import runpy, sys
for out in ({str(tmp_path / "jax.h5")!r}, {str(stack)!r}):
    sys.argv = [*{words!r}, out]
    try:
        runpy.run_module("extract", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        print(ended.code)
"""
    (tmp_path / "both.py").write_text(program)
    done = run("both", cwd=tmp_path, KERAS_BACKEND="jax")
    assert done.stdout == f"{tmp_path / 'jax.h5'}\n0\n2\n", done.stderr
    assert "engine: keras on jax (OpenVINO takes the network from Keras on tensorflow, and this is jax" in done.stderr
    assert open_stack(tmp_path / "jax.h5").attrs["engine"] == "keras on jax"
    close(open_stack(tmp_path / "jax.h5").X, expected)
    assert open_stack(tmp_path / "jax.h5").key == key
    assert "engine: keras on tensorflow in the stack, keras on jax asked for" in done.stderr


def test_no_network_for_imagenet(photo_folder: Path, tmp_path: Path) -> None:
    """Guards the message where Keras cannot download: which file, where it belongs, and the two other ways."""
    home = tmp_path / "home"
    env = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9") | {"KERAS_HOME": str(home)}
    done = run("extract", photo_folder, "--backbone", "vgg16", cwd=tmp_path, **env)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    file = home / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert done.stderr.startswith(
        f"error: no ImageNet weights for vgg16: {file} is not there and cannot be downloaded ("
    )
    assert f"Get {file.name} on a machine with a network and put it there, or give WEIGHTS=FILE" in done.stderr
    assert "WEIGHTS=random" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "features" / "stacks").iterdir()) == []
