"""Where an ONNX graph has its channels: of the image, of maps and of tokens; and what is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import small, written
from test_backbones import close
from test_onnx_files import BYTES, ENGINES, NAMED, node, pixels_of
from tiny import photos
from warm import run

from classify import Classifier, export, fit
from extract import extract
from extract.layers import layers_of
from extract.network.forward import compile_forward
from extract.network.onnx_file import read_onnx
from extract.network.onnx_network import OnnxNetwork
from features import Refused, open_stack

pytest.importorskip("openvino")
runtime = pytest.importorskip("onnxruntime")


def patches(shape: tuple[Any, ...]) -> dict[str, Any]:
    """Patches that a reshape cuts out of images whose channels are last, as networks of JAX do."""
    weights = {"cut": [-1, 2, 4, 2, 4, 3], "flat": [-1, 4, 48]}
    held = [numpy_helper.from_array(np.array(value, "i8"), name) for name, value in weights.items()]
    held.append(numpy_helper.from_array(np.random.default_rng(1).normal(size=(48, 7)).astype("f4"), "linear"))
    nodes = [
        *(node("Reshape", "image cut", "six"), node("Transpose", "six", "turned", perm=[0, 1, 3, 2, 4, 5])),
        *(node("Reshape", "turned flat", "patches"), node("MatMul", "patches linear", "tokens")),
        node("Transpose", "image", "values", perm=[0, 3, 1, 2]),
    ]
    return {"shape": shape, "first": nodes, "weights": held, "outputs": ["tokens"]}


def flipped() -> dict[str, Any]:
    """Channels taken one by one and put together again, as torchvision's Inception does."""
    held = [numpy_helper.from_array(np.array([1], "i8"), "axis")]
    nodes = []
    for i in (2, 1, 0):
        held.append(numpy_helper.from_array(np.array(i, "i8"), f"index{i}"))
        nodes += [
            node("Gather", f"image index{i}", f"plane{i}", axis=1),
            node("Unsqueeze", f"plane{i} axis", f"one{i}"),
        ]
    return {"shape": NAMED, "first": [*nodes, node("Concat", "one2 one1 one0", "values", axis=1)], "weights": held}


def stacked() -> dict[str, Any]:
    """Four neighbours are channels of one position, as in the stem of YOLO: twelve channels of three."""
    held = [numpy_helper.from_array(np.ones((5, 12, 1, 1), "f4"), "stem")]
    nodes = [node("SpaceToDepth", "image", "twelve", blocksize=2), node("Conv", "twelve stem", "values")]
    return {"shape": NAMED, "first": nodes, "weights": held, "outputs": ["values"]}


CHANNELS: list[tuple[dict[str, Any], int | None, int]] = [  # the file, its side, and the axis of its channels
    ({"shape": NAMED}, None, 1),
    ({"shape": (-1, -1, -1, -1)}, None, 1),
    ({"shape": ("b", "h", "w", "c"), "first": [node("Transpose", "image", "values", perm=[0, 3, 1, 2])]}, None, 3),
    ({"shape": ("b", 3, 3, 3)}, 3, 1),
    (patches(("b", 8, 8, 3)), 8, 3),
    (patches((-1, 8, 8, 3)), 8, 3),
    (flipped(), None, 1),
    (stacked(), None, 1),
]


@pytest.mark.parametrize(("made", "side", "axis"), CHANNELS)
def test_the_first_weights_say_where_channels_are(
    tmp_path: Path, made: dict[str, Any], side: int | None, axis: int
) -> None:
    """Guards axes without numbers, of −1, or all of the same size: the convolution or product says it."""
    file = read_onnx(small(tmp_path / "m.onnx", **made))
    assert (file.side, file.is_nhwc) == (side, axis == 3)


def test_four_channels_without_a_number(tmp_path: Path) -> None:
    """Guards the number of channels where only the weights say it."""
    held = [numpy_helper.from_array(np.ones((3, 4, 1, 1), "f4"), "four")]
    with pytest.raises(Refused, match=r"does not take RGB images: .* its first weights take other channels than 3 on"):
        read_onnx(small(tmp_path / "m.onnx", NAMED, first=[node("Conv", "image four", "values")], weights=held))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("last", [False, True], ids=["as it is", "turned"])
def test_channels_last_whatever_the_file_does(tmp_path: Path, engine: str, first: bool, last: bool) -> None:
    """Guards feature_shape and rows where input and output differ, inner tensors included: plain ONNX Runtime."""
    turn = {"shape": ("b", 8, 8, 3), "first": [node("Transpose", "image", "values", perm=[0, 3, 1, 2])]}
    end = {"nodes": [node("Transpose", "map", "Identity:0", perm=[0, 2, 3, 1])], "outputs": ["Identity:0"]}
    file = small(tmp_path / "m.onnx", **(turn if first else {}), **(end if last else {}))
    layers = ["Identity:0", "map"] if last else ["map"]
    network = OnnxNetwork(file, BYTES, 8, layers)
    made = compile_forward(network, 4, "cpu", engine)(pixels_of(8, 4))
    assert network.output_shapes == [(4, 4, 5)] * len(layers)
    given = pixels_of(8, 4).astype("f4")
    given = given if first else np.ascontiguousarray(given.transpose(0, 3, 1, 2))
    (expected,) = runtime.InferenceSession(str(file)).run(layers[:1], {"image": given})
    for rows in made:
        close(rows, (expected if last else expected.transpose(0, 2, 3, 1)).reshape(4, -1))
    assert layers_of(str(file))[layers[0]] == (4, 4, 5)


def test_tokens_whose_channels_come_first(tmp_path: Path) -> None:
    """Guards (tokens, channels): a map that is only flattened has its channels before its positions."""
    held = [numpy_helper.from_array(np.array([0, 5, -1], "i8"), "flat")]
    file = small(tmp_path / "m.onnx", nodes=[node("Reshape", "map flat", "rows")], weights=held, outputs=["rows"])
    network = OnnxNetwork(file, BYTES, 8, ["rows", "map"])
    rows, maps = compile_forward(network, 2, "cpu", "openvino")(pixels_of(8, 2))
    assert network.output_shapes == [(16, 5), (4, 4, 5)] and np.array_equal(rows, maps)


def test_what_is_not_known_is_asked_for(tmp_path: Path) -> None:
    """Guards against a guess: axes that the graph does not say are asked for, kept in the stack, and used again."""
    data = photos(tmp_path / "photos", each=3)
    held = [numpy_helper.from_array(np.array([0, 4, -1, 5], "i8"), "shape")]
    nodes = [node("Flatten", "map", "flat", axis=1), node("Reshape", "flat shape", "said")]
    file = small(tmp_path / "m.onnx", nodes=nodes, weights=held, outputs=["said"])
    words = ("extract", data, "--backbone", file, "--preprocess", "none", "--out", "a.h5")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "a.h5").exists()
    assert "which axis of said is channels. Say it: --axes said=… with nchw or nhwc" in done.stderr
    done = run(*words, "--axes", "said=nchw", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stack = open_stack(tmp_path / "a.h5")
    assert stack.attrs["tensor_axes"] == "said=nchw" and stack.feature_shape == (4, 5, 4)
    other = run(*words, "--axes", "said=nhwc", cwd=tmp_path)
    assert other.returncode == 2 and "tensor_axes: said=nchw in the stack, said=nhwc asked for" in other.stderr
    model = fit(str(stack.path), "logreg", out=str(tmp_path / "model"))
    assert Classifier.load(model).predict_proba([data / stack.paths[0]]).shape == (1, 3)
    assert (export(str(model), "onnx")).exists()


def whole_at_once(path: Path) -> Path:
    """A network whose first weights see the whole image at once."""
    held = [numpy_helper.from_array(np.ones((192, 5), "f4"), "linear")]
    nodes = [node("Flatten", "image", "flat", axis=1), node("MatMul", "flat linear", "map")]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, 8, 8])
    row = helper.make_tensor_value_info("map", TensorProto.FLOAT, None)
    return written(helper.make_graph(nodes, "flat", [image], [row], held), path)


@pytest.mark.parametrize(
    ("made", "axes", "named"),
    [
        (
            whole_at_once,
            "",
            r"does not say which axis of its image is channels: .*Say it: --axes nchw .*, or --axes nhwc",
        ),
        (whole_at_once, "ncwh", r"--axes ncwh: expected nchw or nhwc for the image, TENSOR=nchw or =nhwc for a map"),
        (small, "nhwc", r"--axes nhwc: the first weights of .* sum over axis 1 of its image"),
        (small, "map=nhwc", r"--axes map=nhwc: the graph of .* says that axis 1 is channels"),
        (small, "nap=nhwc", r"--axes nap=nhwc: .* has no tensor of that name which its image decides"),
    ],
)
def test_wrong_axes(tmp_path: Path, made: Any, axes: str, named: str) -> None:
    """Guards the message of each mistake with `--axes`; the graph is not contradicted."""
    with pytest.raises(Refused, match=named):
        compile_forward(OnnxNetwork(made(tmp_path / "m.onnx"), BYTES, 8, ["map"], axes=axes), 1, "cpu", "openvino")


def test_an_image_whose_axes_are_given(tmp_path: Path) -> None:
    """Guards `--axes` for the image: a network that sees all of it at once takes it as it is told."""
    file = whole_at_once(tmp_path / "m.onnx")
    (rows,) = compile_forward(OnnxNetwork(file, BYTES, 8, ["map"], axes="nchw"), 3, "cpu", "openvino")(pixels_of(8))
    close(rows, np.repeat(pixels_of(8).reshape(3, -1).sum(axis=1, dtype="f4")[:, None], 5, axis=1))
    data = str(photos(tmp_path / "photos", each=3))
    stack = extract(data, str(file), preprocess="none", axes="nchw", out=str(tmp_path / "a.h5"))
    assert open_stack(stack).attrs["tensor_axes"] == "nchw"
    assert extract(data, str(file), preprocess="none", axes="nchw", out=str(tmp_path / "a.h5")) == stack
