"""The page beside an exported file: what it takes, how an image becomes that, and how runtimes call it."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2

from classify.portable.snippets import CPP, JS, LOADED, NOTES, PLACES, PYTHON
from extract.images.decode import SPARE
from extract.recipe import Recipe

STEPS = {
    "squash": "Resize all of it to {size} × {size} pixels, whatever its proportions.",
    "crop": "Crop the square in its middle, and resize that to {size} × {size} pixels.",
    "cropN": "Crop the square in its middle whose side is {first} of its shorter edge, rounded down; resize that to "
    "{size} × {size} pixels.",
    "pad": "Put it into the middle of a black square as large as its longer edge, and resize that to {size} × {size} "
    "pixels.",
    "edgeN": "Resize it so that its shorter edge has {first} pixels, the other in proportion and rounded down; crop "
    "the {size} × {size} pixels in its middle.",
    "squashN": "Resize all of it to {first} × {first} pixels; crop the {size} × {size} pixels in its middle.",
}
MIDDLE = "left, top = (image.width - {side}) // 2, (image.height - {side}) // 2"
CROP = "image = image.crop((left, top, left + {side}, top + {side}))"
CODE = {
    "squash": ("image = image.resize(({size}, {size}), {filter})",),
    "crop": (
        *("side = min(image.size)", MIDDLE.format(side="side")),
        CROP.format(side="side") + ".resize(({size}, {size}), {filter})",
    ),
    "cropN": (
        *("side = max(1, int({first} * min(image.size)))", MIDDLE.format(side="side")),
        CROP.format(side="side") + ".resize(({size}, {size}), {filter})",
    ),
    "pad": (
        *('square = Image.new("RGB", (max(image.size),) * 2)',),
        "square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))",
        "image = square.resize(({size}, {size}), {filter})",
    ),
    "edgeN": (
        "image = image.resize([{first} * length // min(image.size) for length in image.size], {filter})",
        *(MIDDLE.replace("{side}", "{size}"), CROP.replace("{side}", "{size}")),
    ),
    "squashN": (
        "image = image.resize(({first}, {first}), {filter})",
        *(MIDDLE.replace("{side}", "{size}"), CROP.replace("{side}", "{size}")),
    ),
}


def guide(to: str, name: str, about: dict[str, Any], recipe: Recipe) -> str:
    """The page as Markdown.

    Args:
        to: the format.
        name: of the file.
        about: `model.json` of the model.
        recipe: how an image becomes pixels.
    """
    first = re.sub(r"[a-z]", "", recipe.resize)
    kind = recipe.resize.removesuffix(first) + ("N" if first else "")
    values = {"size": recipe.size, "first": first, "filter": f"Image.Resampling.{recipe.filter.upper()}"}
    square = "\n".join(line.format(**values) for line in CODE[kind])
    labels, text = about["label_names"], Path(__file__).with_name("guide.md.jinja").read_text("utf-8")
    known = {"name": name, "size": recipe.size, "classes": len(labels)}
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(text).render(
        **known,
        title=about["title"],
        beside=Path(name).with_suffix(".bin") if to == "openvino" else "",
        labels=labels,
        labels_json=json.dumps(labels, ensure_ascii=False),
        place=PLACES[to],
        managed=recipe.is_managed,
        page=recipe.page,
        white=recipe.white,
        step=STEPS[kind].format(**values),
        filter=recipe.filter,
        scaled=recipe.decode.startswith("scaled"),
        spare=SPARE,
        python=PYTHON.format(square=square, loaded=LOADED[to].format(**known)),
        cpp=CPP[to] % known,
        js=JS[to] % known,
        note=NOTES[to],
    )
