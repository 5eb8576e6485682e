"""The page that reports share: a head, a table of contents, sections, and a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mechprobe.show.bundle import POLICY, asset
from mechprobe.show.content import Content
from mechprobe.show.page import element, join, text
from mechprobe.show.view import Panel, panel_scripts

STILL = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a page without scripts may do: show what it carries."""
BADGES = {
    "held": ("held", "✓"), "did not hold": ("failed", "✗"), "not testable here": ("untested", "–"),
}
_ASIDE = {"held": "held", "did not hold": "did not hold", "not testable here": "not testable"}


@dataclass(frozen=True)
class Part:
    """A section: the name that links use, its heading, and what stands in it as HTML."""

    name: str
    title: str
    html: str


def document(
    title: str, head: str, parts: Sequence[Part], footer: str,
    panels: Mapping[str, Panel] = MappingProxyType({}),
) -> str:
    """The whole page as HTML; only one with panels may run scripts, and none reaches a network."""
    style = asset("report.css") + (asset("panels.css") + asset("rows.css") if panels else "")
    links = join(element("a", text(part.title), href=f"#{part.name}") for part in parts)
    body = join(
        element("section", element("h2", text(part.title)) + part.html, id=part.name)
        for part in parts
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY if panels else STILL}">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + element("header", head)
        + '<div class="columns">\n'
        + element("nav", element("strong", "Contents") + links, aria_label="Contents")
        + element("main", body)
        + "</div>\n"
        + element("footer", text(footer))
        + panel_scripts(panels)
        + "</body>\n</html>\n"
    )


def verdict_counts(content: Content) -> str:
    """How many claims held, did not hold, and could not be tested."""
    counts = join(
        element(
            "div", element("b", str(count)) + element("span", _ASIDE[verdict]),
            class_=f"count {BADGES[verdict][0]}" + ("" if count else " none"),
        )
        for verdict, count in content.verdicts()
    )
    return element("div", counts, class_="counts")


def badge(verdict: str) -> str:
    """A verdict with its sign and colour."""
    kind, sign = BADGES[verdict]
    return element(
        "span", f'<i aria-hidden="true">{sign}</i> {text(verdict)}', class_=f"badge {kind}"
    )
