"""A file of every past format version is read for ever; and FORMAT.md's tables tell the truth."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from features import open_stack, verify
from features.schema import RECIPE, row_fields

FILES = sorted((Path(__file__).parents[1] / "data").glob("stack-v*.h5"))
SPEC = (Path(__file__).parents[2] / "features" / "FORMAT.md").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_old_files_open(path):
    """Six images were laid out, one was rejected; every value is still what was written then."""
    stack = open_stack(path)
    assert stack.paths == ["class0/é0.png", "class1/é1.png", "class0/é2.png", "class1/é3.png", "class1/é5.png"]
    assert stack.label_names == ["class0", "class1"]
    assert stack.y.tolist() == [0, 1, 0, 1, 1]
    assert stack.split.tolist() == [0, 0, 0, 2, 0]
    assert stack.feature_shape == (2, 2, 3)
    random = np.random.default_rng(0).standard_normal((6, 12)).astype("f4")
    np.testing.assert_array_equal(stack.X, random[[0, 1, 2, 3, 5]])
    assert [(name, reason) for name, reason, *_ in stack.rejects] == [("class0/é4.png", "the file is empty")]
    assert verify(str(path), rows_only=True)["rows"] == 5


def test_pooled_float16_rows_open():
    """What version 2 added: the same images, average-pooled and rounded."""
    small, whole = open_stack(FILES[0].with_name("pooled-v2.h5")), open_stack(FILES[-1])
    assert (small.attrs["format_version"], small.feature_shape, small.X.dtype) == (2, (3,), np.float16)
    np.testing.assert_array_equal(small.X, whole.X.reshape(5, 4, 3).mean(axis=1).astype("f2"))
    assert (small.paths, small.rejects) == (whole.paths, whole.rejects)
    assert verify(str(small.path), rows_only=True)["rows"] == 5


def test_the_specification_names_every_dataset_and_attribute():
    """What stage one writes is in FORMAT.md, and what the recipe is made of, too."""
    with h5py.File(FILES[-1].with_name("pooled-v2.h5")) as file:
        for name in [*file, *file.attrs, *row_fields(1, 1)]:
            assert f"`{name}`" in SPEC
    assert all(name in SPEC.split("The **recipe** is")[1].split(".")[0] for name in RECIPE)
