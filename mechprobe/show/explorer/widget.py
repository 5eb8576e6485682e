"""The explorer in a notebook: an anywidget whose page asks and whose Python answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mechprobe.errors import InputError
from mechprobe.show.bundle import asset


def page_module() -> str:
    """The ES module of the page, as anywidget loads it."""
    names = ("rows.js", "explorer/grid.js", "explorer/explorer.js", "explorer/widget.js")
    return "\n".join(asset(name) for name in names)


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
        widget.send({**answer(question), "id": question["id"]})

    page.on_msg(reply)
    return page
