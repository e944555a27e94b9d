"""A page from its template: one HTML file that needs nothing else, and no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from classify.comparison.figures import readable
from classify.comparison.wording import FORMATS, THIN


def rendered(template: str, context: Mapping[str, Any]) -> str:
    """The page. A name that the context lacks is an error.

    Args:
        template: a file beside this one, or in the room of the audit.
        context: what it speaks of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1] / "auditing"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FORMATS | {"readable": readable}
    environment.globals |= FORMATS | {"THIN": THIN}
    return environment.get_template(template).render(context)
