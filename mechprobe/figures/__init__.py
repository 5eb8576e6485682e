"""Static figures of results: readable at column width, in colours everyone can tell apart."""

from mechprobe.figures.attention import attention_profile
from mechprobe.figures.closing import closing_curve
from mechprobe.figures.curves import emergence, sparsity_curve
from mechprobe.figures.effects import site_effects
from mechprobe.figures.head_map import head_map, keep_frequency
from mechprobe.figures.null import bars_with_null
from mechprobe.figures.similarity import jaccard_matrix
from mechprobe.figures.spread import accuracy_spread
from mechprobe.figures.style import COLUMN, PAGE, save_figure

__all__ = [
    "COLUMN",
    "PAGE",
    "accuracy_spread",
    "attention_profile",
    "bars_with_null",
    "closing_curve",
    "emergence",
    "head_map",
    "jaccard_matrix",
    "keep_frequency",
    "save_figure",
    "site_effects",
    "sparsity_curve",
]
