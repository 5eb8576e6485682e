"""Static figures of results: readable at column width, in colours everyone can tell apart."""

from mechprobe.figures.attention import attention_profile
from mechprobe.figures.by_height import attention_maps, enrichment_by_height, mass_by_height
from mechprobe.figures.closing import closing_curve
from mechprobe.figures.curves import emergence, sparsity_curve
from mechprobe.figures.effects import site_effects
from mechprobe.figures.head_map import head_map, keep_frequency
from mechprobe.figures.layers import layer_curves
from mechprobe.figures.null import bars_with_null
from mechprobe.figures.similarity import jaccard_matrix
from mechprobe.figures.spread import accuracy_spread
from mechprobe.figures.staircase import staircase, training_curves
from mechprobe.figures.style import COLUMN, PAGE, save_figure

__all__ = [
    "COLUMN",
    "PAGE",
    "accuracy_spread",
    "attention_maps",
    "attention_profile",
    "bars_with_null",
    "closing_curve",
    "emergence",
    "enrichment_by_height",
    "head_map",
    "jaccard_matrix",
    "keep_frequency",
    "layer_curves",
    "mass_by_height",
    "save_figure",
    "site_effects",
    "sparsity_curve",
    "staircase",
    "training_curves",
]
