"""Models whose circuit is known, and disguises that change their weights but not what they do."""

from mechprobe.planted.cases import Case, load_case
from mechprobe.planted.copies import add_copies, unread_directions
from mechprobe.planted.disguise import (
    add_dimensions,
    add_heads,
    add_layers,
    disguise,
    permute_heads,
    rotate_heads,
    rotate_residual,
)
from mechprobe.planted.disguised import Disguised

__all__ = [
    "Case",
    "Disguised",
    "add_copies",
    "add_dimensions",
    "add_heads",
    "add_layers",
    "disguise",
    "load_case",
    "permute_heads",
    "rotate_heads",
    "rotate_residual",
    "unread_directions",
]
