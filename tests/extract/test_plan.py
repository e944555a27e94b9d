"""Every state that a stack can be found in, and what is decided about it. No file is touched."""

from itertools import product
from pathlib import Path

import pytest

from extract.stack.changes import ImageChanges
from extract.stack.plan import Existing, Plan, plan
from features import Refused

STACK, BEGUN = Path("pets.h5"), Path("pets.h5.partial")
NONE = ImageChanges([], [], [], [], [])
STATES = {
    "same": {},
    "added": {"images": NONE._replace(added=["new.jpg"])},
    "removed": {"images": NONE._replace(removed=["old.jpg"])},
    "changed": {"images": NONE._replace(changed=["edited.jpg"])},
    "settings": {"settings": ("layer: block5_pool in the stack, block4_pool asked for",)},
    "damaged": {"damaged": ("3 (cat/3.jpg)",)},
}
LINES = {
    "added": "1 images added: new.jpg",
    "removed": "1 images removed: old.jpg",
    "changed": "1 images changed: edited.jpg",
}


def existing(path: Path, state: str) -> Existing:
    """A stack of ten images in one of these states. Nobody looks for damaged rows of a begun file: it is re-checked."""
    return Existing(path, **{"images": NONE} | ({} if (path, state) == (BEGUN, "damaged") else STATES[state]))


def expected(finished: str | None, begun: str | None) -> Plan | str:
    """The decision, or a part of the refusal's text; written out beside `plan`, by other rules."""
    match finished, begun:
        case None, None:
            return Plan("begin")
        case None, "same" | "damaged":
            return Plan("resume")
        case None, "changed":
            return Plan("resume", again=("edited.jpg",))
        case None, "added" | "removed":
            told = f"pets.h5.partial: {LINES[begun]}; what was begun is finished first"
            return Plan("resume", as_begun=True, told=(told,))
        case None, "settings":
            return "pets.h5.partial was made from something else:\n  layer: block5_pool"
        case "settings", _:
            return "pets.h5 was made from something else:\n  layer: block5_pool"
        case "same", _:
            return Plan("nothing", told=("pets.h5 is up to date, nothing to do",))
    mended = "pets.h5 is damaged, so row 3 (cat/3.jpg) is computed again"
    return Plan(
        "update",
        again=("edited.jpg",) if begun == "changed" else (),
        not_carried=("edited.jpg",) if finished == "changed" else (),
        keeps_begun=begun in ("same", "changed", "damaged"),
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
        assert "to start again, or have python -m extract write elsewhere with --out FILE." in str(refused.value)


@pytest.mark.parametrize("path", [STACK, BEGUN])
@pytest.mark.parametrize("kind", ["relabelled", "resplit"])
def test_other_labels_are_refused(path: Path, kind: str) -> None:
    """Guards against rows under a label or in a split that they were not made with."""
    images = NONE._replace(**{kind: ["cat/1.jpg"], "added": ["new.jpg"]})
    given = Existing(path, images)
    with pytest.raises(Refused, match=f"1 images {kind}: cat/1.jpg"):
        plan(*((given, None) if path == STACK else (None, given)))


def test_a_begun_file_without_one_image_left_is_refused() -> None:
    """Guards a first run against being finished for images that are all gone: another dataset perhaps."""
    images = NONE._replace(added=["new.jpg"], removed=["a.jpg", "b.jpg"])
    with pytest.raises(Refused, match=r"1 images added: new.jpg\n  2 images removed: a.jpg, b.jpg"):
        plan(None, Existing(BEGUN, images, gone=True))


@pytest.mark.parametrize("kind", ["relabelled", "resplit"])
def test_an_update_drops_a_begun_file_with_other_labels(kind: str) -> None:
    """Guards an update against a second file that a killed run left under other labels or in other splits."""
    begun = Existing(BEGUN, NONE._replace(**{kind: ["cat/1.jpg"], "changed": ["edited.jpg"]}), 10)
    decided = plan(existing(STACK, "added"), begun)
    assert decided == Plan("update", told=(f"pets.h5: {LINES['added']}",))


def test_a_finished_stack_without_one_image_left_is_updated() -> None:
    """Guards the difference to a begun file: whoever replaces all images of a finished stack gets an update."""
    images = NONE._replace(added=["new.jpg"], removed=["a.jpg", "b.jpg"])
    told = "pets.h5: 1 images added: new.jpg; 2 images removed: a.jpg, b.jpg"
    assert plan(Existing(STACK, images, gone=True), None) == Plan("update", told=(told,))


def test_all_that_is_wrong_is_told() -> None:
    """Guards the messages of an update for several reasons: damage first, then every kind of change in one line."""
    images = NONE._replace(added=["new.jpg"], removed=["old.jpg"], changed=["edited.jpg"])
    decided = plan(Existing(STACK, images, damaged=("3 (cat/3.jpg)",)), None)
    assert decided.told == (
        "pets.h5 is damaged, so row 3 (cat/3.jpg) is computed again",
        "pets.h5: 1 images added: new.jpg; 1 images removed: old.jpg; 1 images changed: edited.jpg",
    )
