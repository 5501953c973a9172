"""A matplotlib figure -> SVG that stands inside a page: no outside reference, colours by variable, words to hover."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from matplotlib.figure import Figure

from experiments.plots import GRID, INK, MUTED, SERIES, TIP, ZONE

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
VARIABLES = {INK: "--ink", MUTED: "--muted", **{colour: f"--s{place}" for place, colour in enumerate(SERIES)}}
VARIABLES |= {GRID: "--grid", ZONE: "--zone"}
"""The page's variable that stands for each colour of a figure."""


def inline(figure: Figure, name: str, alt: str) -> str:
    """Return the figure as an `<svg>` element of the page; `name` is its own on the page, `alt` what it shows."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    root = ElementTree.fromstring(stream.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{SVG}metadata" or child.tag == f"{SVG}style":
                parent.remove(child)
    used = set(_references(root))
    for element in root.iter():
        _rename(element, name, used)
        _hover(element)
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "group", "aria-label": alt, "class": "figure", "style": f"--wide:{_width(root)}"}
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"<(/?)\w+:", r"<\1", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def _width(root: ElementTree.Element) -> str:
    return root.attrib.get("viewBox", "0 0 340 0").split()[2]


def _references(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == f"{XLINK}href":
                yield value.removeprefix("#")
            yield from re.findall(r"url\(#([^)]+)\)", value)


def _rename(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Make the ids that are referred to the page's only ones of that name, and drop the others but hover words."""
    own = element.attrib.get("id")
    if own is not None and not own.startswith(TIP):
        del element.attrib["id"]
        if own in used:
            element.attrib["id"] = f"{name}-{own}"
    link = element.attrib.pop(f"{XLINK}href", None)
    if link is not None:
        element.attrib["href"] = f"#{name}-{link.removeprefix('#')}"
    for key, value in element.attrib.items():
        element.attrib[key] = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value)


def _hover(element: ElementTree.Element) -> None:
    told = element.attrib.get("id", "")
    if told.startswith(TIP):
        del element.attrib["id"]
        words = told.removeprefix(TIP)
        element.attrib |= {"class": "tip", "tabindex": "0", "role": "img", "aria-label": words}
