"""A view: pictures of one text, shown in a notebook or saved as a page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechprobe.runs import atomic_write
from mechprobe.show.bundle import POLICY, asset, code_script, data_script, packed_circuitsvis
from mechprobe.show.page import element, join, text

OWN = ("AttentionRows",)
"""Components drawn by our own script; the others are circuitsvis'."""


@dataclass(frozen=True)
class Panel:
    """One picture: a component with its properties, and the same as words.

    Attributes:
        title: its heading.
        component: a component of circuitsvis, or one of ``OWN``; "" for a table alone.
        props: what the component is given, plain JSON values.
        note: a sentence under the heading.
        columns: names of the table that says the same in text; none: no table.
        rows: cells of that table.
        height: pixels it takes on a screen.
    """

    title: str
    component: str
    props: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    height: int = 300


@dataclass(frozen=True)
class View:
    """Pictures of one text: shown by a notebook as it is, or written by ``save``.

    Attributes:
        title: the page's heading.
        panels: the pictures, one after the other.
    """

    title: str
    panels: tuple[Panel, ...] = field(repr=False)

    def page(self) -> str:
        """The whole page as HTML: self-contained, and unable to reach a network."""
        panels = {f"panel-{i}": panel for i, panel in enumerate(self.panels)}
        sections = join(
            element("section", panel_section(name, panel)) for name, panel in panels.items()
        )
        style = join(map(asset, ("view.css", "panels.css", "rows.css")))
        return whole_page(
            self.title, style, element("h1", text(self.title)) + sections, panel_scripts(panels)
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to a file; it opens anywhere, without a network.

        Raises:
            InputError: the file cannot be written.
        """
        return atomic_write(Path(path).expanduser(), self.page().encode())

    def _repr_html_(self) -> str:
        """The page in a frame of its own, whose scripts cannot touch the notebook."""
        height = min(900, 90 + sum(panel.height for panel in self.panels))
        return framed(self.page(), self.title, height)


def whole_page(title: str, style: str, body: str, scripts: str) -> str:
    """A page with its style and scripts inside, and a policy that keeps it from any network."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + element("main", body) + scripts + "</body>\n</html>\n"
    )


def framed(page: str, title: str, height: int) -> str:
    """A page as a frame of a notebook; its lower edge can be dragged."""
    return (
        f'<iframe title="{text(title)}" sandbox="allow-scripts" srcdoc="{text(page)}" '
        f'style="width:100%;height:{height}px;border:1px solid #ccc;resize:vertical"></iframe>'
    )


def panel_section(name: str, panel: Panel, heading: str = "h2") -> str:
    """A panel as HTML: its words, and the place of that name where a script draws it."""
    inner = element(heading, text(panel.title))
    if panel.note:
        inner += element("p", text(panel.note), class_="note")
    if panel.columns:
        table = _table(panel.columns, panel.rows)
        inner += element(
            "details", element("summary", "The same in numbers") + table,
            **({} if panel.component else {"open": ""}),
        )
    if panel.component:
        kind = "panel" if panel.component in OWN else "panel paper"
        inner += element("div", "", id=name, class_=kind)
    return inner


def panel_scripts(panels: Mapping[str, Panel]) -> str:
    """What draws a page's panels, by the names of their places; circuitsvis at most once."""
    drawn = [
        {"id": name, "component": panel.component, "props": dict(panel.props)}
        for name, panel in panels.items() if panel.component
    ]
    if not drawn:
        return ""
    theirs = any(panel["component"] not in OWN for panel in drawn)
    return (
        (f'<script type="text/plain" id="circuitsvis">{packed_circuitsvis()}</script>\n'
         if theirs else "")
        + data_script("panels", drawn) + code_script(asset("rows.js") + asset("view.js"))
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = element("tr", join(element("th", text(name), scope="col") for name in columns))
    body = join(
        element("tr", join(element("td", text(cell), dir="auto") for cell in row)) for row in rows
    )
    grid = element("table", element("thead", head) + element("tbody", body))
    return element("div", grid, class_="box", tabindex="0", role="region", aria_label="numbers")
