"""circuitsvis' JavaScript out of its wheel, and data, as pieces of a page that loads nothing."""

from __future__ import annotations

import base64
import gzip
import json
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mechprobe.errors import InputError

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""What a page with scripts may do: run what it carries, and reach no network."""

_JOINER = "\N{WORD JOINER}"


@lru_cache(maxsize=1)
def packed_circuitsvis() -> str:
    """circuitsvis' bundle ``dist/cdn/iife.js``, gzipped and in base64: a third of its 1.3 MB.

    Raises:
        InputError: circuitsvis is not installed, or without its bundle.
    """
    spec = find_spec("circuitsvis")
    bundle = None if spec is None or spec.origin is None else (
        Path(spec.origin).parent / "dist" / "cdn" / "iife.js"
    )
    if bundle is None or not bundle.is_file():
        raise InputError(
            "circuitsvis is not installed with its JavaScript (dist/cdn/iife.js); run: "
            "pip install --force-reinstall 'circuitsvis>=1.43'"
        )
    return base64.b64encode(gzip.compress(bundle.read_bytes(), 9, mtime=0)).decode()


def asset(name: str) -> str:
    """A script or style sheet of this room ("view.js", "explorer/explorer.css")."""
    return files("mechprobe.show").joinpath(name).read_text(encoding="utf-8")


def data_script(name: str, value: Any) -> str:
    """Data as JSON in a script element of that id; ``</`` is written ``<\\/``.

    No string of the data can end the element: neither a token ``</script>`` nor ``<!--``.

    Raises:
        InputError: NaN or infinite numbers, which JSON does not have.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise InputError(f"a page shows finite numbers only ({error}); mend the values") from None
    text = text.replace("</", "<\\/").replace("<!--", "\\u003c!--")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def code_script(code: str) -> str:
    """Our own code as a module of the page."""
    return f'<script type="module">\n{code}</script>\n'


def inert(token: str) -> str:
    """A token that stays text where it is set as HTML, as circuitsvis' token views do.

    An invisible word joiner (U+2060) after each ``<`` and ``&`` keeps them from opening a tag or a
    character reference; the token looks the same.
    """
    return token.replace("<", "<" + _JOINER).replace("&", "&" + _JOINER)
