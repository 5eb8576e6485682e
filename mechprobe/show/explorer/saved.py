"""The explorer as a page by itself: measured beforehand, interactive without Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mechprobe.errors import InputError
from mechprobe.show.bundle import code_script, data_script
from mechprobe.show.explorer.answers import told_output, told_reading
from mechprobe.show.explorer.circuit import Circuit
from mechprobe.show.explorer.scene import told_measured
from mechprobe.show.explorer.widget import page_code, page_style
from mechprobe.show.page import element
from mechprobe.show.view import whole_page
from mechprobe.sites import SiteGrid, SiteName

if TYPE_CHECKING:
    from mechprobe.show.explorer.explore import Explorer

SCALE = 1000
"""Attention weights are kept as whole thousandths."""
GROUND = """\
:root { color-scheme: light dark; }
body { margin: 0; padding: .5rem; background: light-dark(#fff, #14181d); }
"""


def saved_page(
    explorer: Explorer, sets: Mapping[str, Sequence[SiteName]], examples: int
) -> str:
    """The page of ``Explorer.save_html``; raises as it does."""
    if examples < 1:
        raise InputError(f"examples={examples}; give 1 or more")
    grid = explorer.circuit.grid
    closed_sets = {name: _closed(grid, names) for name, names in sets.items()}
    states = [
        _state(explorer, index, closed_sets, min(examples, len(explorer.behaviour)))
        for index in range(len(explorer.checkpoints))
    ]
    title = f"Circuit explorer: {explorer.behaviour.name}"
    body = element("div", "", id="explorer")
    scripts = data_script("saved", {"states": states}) + code_script(page_code("offline.js"))
    style = GROUND + page_style()
    return whole_page(title, style, body, scripts)


def _closed(grid: SiteGrid, names: Sequence[SiteName]) -> list[str]:
    mask = grid.mask(closed=names)
    return [str(site) for site in grid.select(~mask)]


def _state(
    explorer: Explorer, index: int, closed_sets: Mapping[str, list[str]], examples: int
) -> dict[str, Any]:
    """All that the page may be asked about one checkpoint."""
    circuit = explorer.at(index)
    scene = explorer.scene(index)
    kept = {name: [*names] for name, names in scene["sets"].items()}
    for name, closed in closed_sets.items():
        kept[name] = [site for site in circuit.names if site not in closed]
    scene = {**scene, "sets": kept, "n_shown": examples}
    wanted = [[], *([name] for name in circuit.names)]
    wanted += [[s for s in circuit.names if s not in set(names)] for names in kept.values()]
    return {
        "scene": scene,
        "answers": {_key(circuit, closed): _measured(circuit, closed, examples)
                    for closed in wanted},
        "readings": [_reading(circuit, i) for i in range(examples)],
    }


def _key(circuit: Circuit, closed: Sequence[str]) -> str:
    """The numbers of the closed sites: how the page finds what was measured."""
    shut = set(closed)
    return ",".join(str(i) for i, name in enumerate(circuit.names) if name in shut)


def _measured(circuit: Circuit, closed: Sequence[str], examples: int) -> dict[str, Any]:
    return {
        **told_measured(circuit.measure(closed)),
        "outputs": [
            [told_output(output) for output in circuit.outputs(i, closed)] for i in range(examples)
        ],
    }


def _reading(circuit: Circuit, example: int) -> dict[str, Any]:
    """Tokens of an example and the untouched model's attention, by site."""
    heads = [site for site in circuit.grid if site.kind == "head"]
    attention: dict[str, list[list[int]]] = {}
    for _, group in groupby(heads, key=lambda site: site.stack):
        part = list(group)
        weights = circuit.attention(example, (), part)
        for site, pattern in zip(part, weights, strict=True):
            attention[str(site)] = np.rint(SCALE * pattern).astype(int).tolist()
    return {**told_reading(circuit, example), "attention": attention}
