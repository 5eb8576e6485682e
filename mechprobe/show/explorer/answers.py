"""What the explorer's page is answered about one checkpoint: plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mechprobe.show.attention import token_rows
from mechprobe.show.explorer.circuit import Circuit
from mechprobe.show.explorer.outputs import Output
from mechprobe.show.explorer.scene import told_measured
from mechprobe.sites import Site


def told_set(circuit: Circuit, closed: Sequence[str], reads: int | list[str]) -> dict[str, Any]:
    """What a set of closed sites does to the metric, the other sites, and one example."""
    outputs = circuit.outputs(reads, closed)
    return {
        **told_measured(circuit.measure(closed)), "outputs": [told_output(o) for o in outputs],
    }


def told_reading(circuit: Circuit, reads: int | list[str]) -> dict[str, Any]:
    """The tokens of an example, and the words of a text that the tokenizer does not know."""
    reading = circuit.reading(reads)
    told = {"words": list(reading.words), "decoder_words": list(reading.decoder_words)}
    if reading.unknown:
        told |= {"unknown": list(reading.unknown), "unknown_token": circuit.unknown_token}
    return told


def told_attention(
    circuit: Circuit, site: str, closed: Sequence[str], reads: int | list[str]
) -> dict[str, Any]:
    """Where a head looks on an example."""
    head = Site.parse(site)
    (weights,) = circuit.attention(reads, closed, [head])
    rows, columns = token_rows(circuit.reading(reads), head.stack)
    told = {
        "rows": list(rows), "columns": list(columns),
        "weights": np.round(weights.astype(float), 3).tolist(),
    }
    if not circuit.closes_anywhere:
        kind = circuit.baseline.kind
        told["open"] = f"Of the untouched model: the {kind} baseline is made batch by batch."
    return told


def told_output(output: Output) -> dict[str, Any]:
    """An output; probabilities to four digits."""
    told = asdict(output)
    return told | {name: round(told[name], 4) for name in ("before", "after")}
