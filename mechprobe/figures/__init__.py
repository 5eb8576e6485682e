"""Static figures of results: readable at column width, in colours everyone can tell apart."""

from mechprobe.figures.head_map import head_map, keep_frequency
from mechprobe.figures.similarity import jaccard_matrix
from mechprobe.figures.style import COLUMN, PAGE, save_figure

__all__ = ["COLUMN", "PAGE", "head_map", "jaccard_matrix", "keep_frequency", "save_figure"]
