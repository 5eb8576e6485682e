"""The explorer in a notebook: an anywidget whose page asks and whose Python answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mechprobe.errors import InputError
from mechprobe.show.bundle import asset

SCRIPTS = (
    "rows.js", *(f"explorer/{name}.js" for name in (
        "numbers", "state", "follow", "grid", "tools", "reader", "side", "looked", "explorer",
    )),
)
"""The page's scripts, one scope for all; a notebook's page and a saved one add what answers."""


def page_code(answering: str) -> str:
    """The page as one script, with what answers its questions ("widget.js", "offline.js")."""
    return "\n".join(asset(name) for name in (*SCRIPTS, f"explorer/{answering}"))


def page_module() -> str:
    """The ES module of the page, as anywidget loads it."""
    return page_code("widget.js")


def page_style() -> str:
    """The style sheet of the page."""
    return asset("rows.css") + asset("explorer/explorer.css")


def make_widget(
    scene: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Any:
    """A widget that shows the scene and answers the page's questions.

    Raises:
        InputError: anywidget is not installed.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise InputError(
            f"the explorer is shown by anywidget, which is not installed ({error}); run: "
            "pip install 'mechprobe[notebooks]', or write a page with .save_html(path)"
        ) from None

    class Page(anywidget.AnyWidget):
        """The page; its state is what it was told at first."""

        _esm = page_module()
        _css = page_style()
        scene = traitlets.Dict().tag(sync=True)

    page = Page(scene=dict(scene))

    def reply(widget: Any, question: dict[str, Any], buffers: list[bytes]) -> None:
        try:
            told = answer(question)
        except Exception as error:  # the page must not wait for ever; the kernel logs it
            widget.send({"error": f"{type(error).__name__}: {error}", "id": question["id"]})
            raise
        widget.send({**told, "id": question["id"]})

    page.on_msg(reply)
    return page
