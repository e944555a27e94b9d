"""Every state that a stack can be found in, and what is decided about it. No file is touched."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from extract.stack.changes import ImageChanges, Moved
from extract.stack.plan import Existing, Plan, Source, plan
from features import Refused

STACK, BEGUN = Path("pets.h5"), Path("pets.h5.partial")
ASIDE, OTHER = Path("pets.h5.aside"), Path("animals.h5")
NONE = ImageChanges([], [], [], [], [], [], {})
MOVED = {"dog/1.jpg": Moved("cat/1.jpg", 100, 1)}
STATES: dict[str, dict[str, Any]] = {
    "same": {},
    "added": {"images": NONE._replace(added=["new.jpg"])},
    "removed": {"images": NONE._replace(removed=["old.jpg"])},
    "changed": {"images": NONE._replace(changed=["edited.jpg"])},
    "moved": {"images": NONE._replace(added=["dog/1.jpg"], removed=["cat/1.jpg"], moved=MOVED)},
    "relabelled": {"images": NONE._replace(relabelled=["cat/2.jpg"])},
    "resplit": {"images": NONE._replace(resplit=["cat/3.jpg"])},
    "regrouped": {"images": NONE._replace(regrouped=["cat/4.jpg"])},
    "split again": {"split_again": "split again with seed 2, not 1"},
    "settings": {"settings": ("layer: block5_pool in the stack, block4_pool asked for",)},
    "damaged": {"damaged": ("3 (cat/3.jpg)",)},
}
LINES = {
    "added": "1 images added: new.jpg",
    "removed": "1 images removed: old.jpg",
    "changed": "1 images changed: edited.jpg",
    "moved": "1 images moved or copied: dog/1.jpg",
    "relabelled": "1 images relabelled: cat/2.jpg",
    "resplit": "1 images moved to another split: cat/3.jpg",
    "regrouped": "1 images moved to another group: cat/4.jpg",
    "split again": "split again with seed 2, not 1",
}
COUNTED = {"moved": "moved or copied", "resplit": "moved to another split", "regrouped": "moved to another group"}


def existing(path: Path, state: str) -> Existing:
    """A stack of ten images in one of these states. Nobody looks for damaged rows of a begun file: it is re-checked."""
    return Existing(path, **{"images": NONE} | ({} if (path, state) == (BEGUN, "damaged") else STATES[state]))


def source(path: Path, state: str) -> Source:
    """What is carried over from a stack in this state."""
    return Source(path, ("edited.jpg",) if state == "changed" else (), MOVED if state == "moved" else {})


def expected(finished: str | None, begun: str | None) -> Plan | str:
    """The decision, or a part of the refusal's text; written out beside `plan`, by other rules."""
    match finished, begun:
        case None, None:
            return Plan("begin")
        case None, "same" | "damaged":
            return Plan("resume")
        case None, "changed":
            return Plan("resume", again=("edited.jpg",))
        case None, "settings":
            return "pets.h5.partial was made from something else:\n  layer: block5_pool"
        case "settings", _:
            return "pets.h5 was made from something else:\n  layer: block5_pool"
        case "same", _:
            return Plan("nothing", told=("pets.h5 is up to date, nothing to do",))
    if begun in LINES and begun != "changed":
        return Plan("set aside", told=(f"pets.h5.partial: {LINES[begun]}",))
    assert finished
    mended = "pets.h5 is damaged, so row 3 (cat/3.jpg) is computed again"
    return Plan(
        "resume" if begun in ("same", "changed", "damaged") else "update",
        again=("edited.jpg",) if begun == "changed" else (),
        sources=(source(STACK, finished),),
        splits_of=None if finished == "split again" else STACK,
        changes={} if finished == "damaged" else {COUNTED.get(finished, finished): 1},
        told=(mended if finished == "damaged" else f"pets.h5: {LINES[finished]}",),
    )


@pytest.mark.parametrize(("finished", "begun"), list(product([None, *STATES], [None, *STATES])))
def test_every_state(finished: str | None, begun: str | None) -> None:
    """Guards each pair of a finished stack, a begun file, both or neither, in each state."""
    given = [existing(path, state) if state else None for path, state in ((STACK, finished), (BEGUN, begun))]
    wanted = expected(finished, begun)
    if isinstance(wanted, Plan):
        assert plan(*given) == wanted
    else:
        with pytest.raises(Refused) as refused:
            plan(*given)
        assert str(refused.value).startswith(wanted)
        assert "--out FILE" in str(refused.value)
        assert ("Remove" in str(refused.value)) == (finished is None)


@pytest.mark.parametrize("path", [STACK, BEGUN])
def test_another_dataset_is_refused(path: Path) -> None:
    """Guards a stack of images that are all gone, another project's `photos` perhaps, against being emptied."""
    images = NONE._replace(added=["new.jpg"], removed=["a.jpg", "b.jpg"])
    given = Existing(path, images, gone=True)
    with pytest.raises(Refused, match="not one of its images is in the dataset any more, neither by path nor by bytes"):
        plan(*((given,) if path == STACK else (None, given)))


@pytest.mark.parametrize("state", sorted(STATES.keys() - {"settings"}))
def test_a_file_that_was_set_aside(state: str) -> None:
    """Guards the rows of a killed run whose images have changed since: they are carried over, after the stack's own."""
    aside, begun = existing(ASIDE, state), existing(BEGUN, "same")
    assert plan(None, None, aside) == Plan("update", sources=(source(ASIDE, state),))
    assert plan(None, begun, aside) == Plan("resume", sources=(source(ASIDE, state),))
    finished = plan(existing(STACK, "added"), None, aside)
    assert finished.sources == (source(STACK, "added"), source(ASIDE, state)) and finished.splits_of == STACK
    assert plan(None, existing(BEGUN, "added"), aside).action == "set aside"


def test_a_file_that_was_set_aside_with_other_settings() -> None:
    """Guards against rows of two settings in one file: refused in a first run, of no use to a finished stack."""
    aside = existing(ASIDE, "settings")
    with pytest.raises(Refused, match="pets.h5.aside was made from something else:\n  layer"):
        plan(None, None, aside)
    assert plan(existing(STACK, "added"), None, aside).sources == (source(STACK, "added"),)


def test_rows_of_another_stack() -> None:
    """Guards a dataset under another name: a first run, or one that was killed, takes the rows that are there."""
    copied = existing(OTHER, "moved")
    told = "animals.h5 has rows of the same images, made with the same settings"
    taken = {"sources": (source(OTHER, "moved"),), "told": (told,)}
    assert plan(None, None, None, copied) == Plan("update", **taken)
    assert plan(None, existing(BEGUN, "same"), None, copied) == Plan("resume", **taken)
    assert plan(None, None, existing(ASIDE, "same"), copied).sources == (source(ASIDE, "same"), source(OTHER, "moved"))


@pytest.mark.parametrize(
    ("state", "kept"), [("same", OTHER), ("added", OTHER), ("removed", None), ("split again", None)]
)
def test_splits_of_another_stack(state: str, kept: Path | None) -> None:
    """Guards test rows: the same dataset under another name keeps its splits; a part of another is split anew."""
    assert plan(None, None, None, existing(OTHER, state)).splits_of == kept


def test_all_that_is_wrong_is_told() -> None:
    """Guards the messages of an update for several reasons: damage first, then every kind of change in one line."""
    images = ImageChanges(
        added=["new.jpg", "dog/1.jpg"],
        removed=["old.jpg", "cat/1.jpg"],
        changed=["edited.jpg"],
        relabelled=["cat/2.jpg"],
        resplit=["cat/3.jpg"],
        regrouped=["cat/4.jpg"],
        moved=MOVED,
    )
    decided = plan(Existing(STACK, images, damaged=("3 (cat/3.jpg)",), split_again=LINES["split again"]))
    kinds = ("added", "removed", "changed", "moved", "relabelled", "resplit", "regrouped", "split again")
    assert decided.told == (
        "pets.h5 is damaged, so row 3 (cat/3.jpg) is computed again",
        f"pets.h5: {'; '.join(LINES[kind] for kind in kinds)}",
    )
    assert decided.changes == {COUNTED.get(kind, kind): 1 for kind in kinds}
