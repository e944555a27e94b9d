"""A page from its template: one HTML file that needs nothing else, and no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from classify.comparison.figures import readable
from classify.comparison.wording import FORMATS, THIN

ROOMS = ("comparison", "auditing", "explaining")  # that have templates


def rendered(template: str, context: Mapping[str, Any]) -> str:
    """The page. A name that the context lacks is an error.

    Args:
        template: a file in one of the `ROOMS`.
        context: what it speaks of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parents[1] / room for room in ROOMS]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FORMATS | {"readable": readable}
    environment.globals |= FORMATS | {"THIN": THIN}
    return environment.get_template(template).render(context)
