"""Pieces of HTML; whatever comes from data is escaped here."""

from __future__ import annotations

import base64
import html
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from mechprobe.errors import InputError
from mechprobe.runs.files import unreadable
from mechprobe.show.cells import shown_table
from mechprobe.show.content import Shown

MOST_ROWS = 200
MIME = {".png": "image/png", ".svg": "image/svg+xml"}
PNG = b"\x89PNG\r\n\x1a\n"
SCREEN = 0.46
"""CSS pixels a dot of a 300 dpi figure: letters of 8 points come out at about 15 pixels."""


def text(value: str) -> str:
    """Data as text, never as HTML."""
    return html.escape(value, quote=True)


def prose(value: str) -> str:
    """Data as text; what stands between backticks is set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))


def join(pieces: Iterable[str]) -> str:
    """Pieces of HTML one after the other."""
    return "".join(pieces)


def element(name: str, inner: str, **attributes: str) -> str:
    """An element around HTML; attribute values are escaped (``class_`` and ``aria_label`` work)."""
    named = join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{named}>{inner}</{name}>\n"


def source(shown: str, file: Path, beside: Path) -> str:
    """A link from a page in the folder ``beside`` to a file, under the name that is shown."""
    link = quote(Path(os.path.relpath(file, beside)).as_posix())
    return element("a", text(shown), href=link).rstrip()


def figure(path: Path, shown: Shown, beside: Path) -> str:
    """A picture carried inside a page, with its caption and links to what lies beside it."""
    if path.suffix not in MIME:
        raise InputError(f"figure {shown.file!r} is neither PNG nor SVG; save it as one of them")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    width = _width(path, content)
    data = f"data:{MIME[path.suffix]};base64,{base64.b64encode(content).decode()}"
    size = "wide" if width is None or width > 480 else "narrow"
    known = "" if width is None else f' width="{width}"'
    image = f'<img src="{data}" alt="{text(shown.caption)}"{known}>'
    rel = Path(shown.file).with_suffix(path.suffix)
    links = [source(rel.as_posix(), path, beside)]
    links += [
        source(suffix[1:].upper(), path.with_suffix(suffix), beside)
        for suffix in (".pdf", ".csv") if path.with_suffix(suffix).is_file()
    ]
    told = element("span", ", ".join(links), class_="source")
    caption = element("figcaption", prose(shown.caption) + " " + told)
    return element("figure", element("div", image, class_="picture") + caption, class_=size)


def table(path: Path, shown: Shown, beside: Path) -> str:
    """A CSV as a table that scrolls inside its own box, with a link to it."""
    names, rows, numeric, n_rows = shown_table(path, MOST_ROWS)
    kinds = ["number" if is_number else "word" for is_number in numeric]
    head = element("tr", join(
        element("th", text(name), scope="col", class_=kind)
        for name, kind in zip(names, kinds, strict=True)
    ))
    body = join(
        element("tr", join(
            element("td", text(cell), class_=kind) for cell, kind in zip(row, kinds, strict=True)
        ))
        for row in rows
    )
    size = f"first {len(rows)} of {n_rows} rows, all in" if n_rows > len(rows) else _count(n_rows)
    told = element("span", f"{size} {source(shown.file, path, beside)}", class_="source")
    caption = element("figcaption", prose(shown.caption) + " " + told)
    grid = element("table", element("thead", head) + element("tbody", body))
    box = element("div", grid, class_="box", tabindex="0", role="region", aria_label=shown.caption)
    return element("figure", caption + box, class_="table")


def _count(n: int) -> str:
    return f"{n} row in" if n == 1 else f"{n} rows in"


def _width(path: Path, content: bytes) -> int | None:
    """Width of a figure on the screen in CSS pixels; None for an SVG, which has its own."""
    if path.suffix != ".png":
        return None
    if not content.startswith(PNG) or len(content) < 24 or not content.rstrip().endswith(
        b"IEND\xaeB`\x82"
    ):
        raise unreadable(path, ValueError("not a whole PNG"))
    return round(struct.unpack(">I", content[16:20])[0] * SCREEN)
