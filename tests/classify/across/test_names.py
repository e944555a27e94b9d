"""Names of stacks that are compared: short, unlike each other, and the same in any order."""

from pathlib import Path

from tiny import contents, stack

from classify.across.names import names_of
from features import open_stack


def test_a_name_says_what_is_unlike_the_backbones_own(tmp_path: Path) -> None:
    made = {
        "vgg16": {"input_size": 224},
        "vgg16 block4_pool": {"input_size": 224, "layer": "block4_pool"},
        "vgg16 160px": {"input_size": 160},
        "vgg16 160px bf16": {"input_size": 160, "precision": "bf16"},
        "resnet50": {"backbone": "resnet50", "layer": "other"},
    }
    stacks = [open_stack(stack(tmp_path / f"{i}.h5", contents(), **how)) for i, how in enumerate(made.values())]
    assert names_of(stacks) == list(made)
    assert names_of(stacks[::-1]) == list(made)[::-1]


def test_weights_that_differ_are_told_and_names_that_would_be_equal_are_the_files(tmp_path: Path) -> None:
    random, file = (
        open_stack(stack(tmp_path / f"{name}.h5", contents(), weights=name, weights_sha256=name[0] * 64))
        for name in ("random", "mine.weights.h5")
    )
    assert names_of([random, file]) == ["vgg16 random", "vgg16 mine"]
    twin = open_stack(stack(tmp_path / "twin.h5", contents(), weights="random", weights_sha256="2" * 64))
    assert names_of([random, twin]) == ["random", "twin"]
