"""Static figures of results: readable at column width, in colours everyone can tell apart."""

from mechprobe.figures.attention import attention_profile
from mechprobe.figures.by_height import attention_maps, enrichment_by_height, mass_by_height
from mechprobe.figures.circuit_graph import circuit_graph
from mechprobe.figures.closing import closing_curve
from mechprobe.figures.curves import emergence, sparsity_curve
from mechprobe.figures.edge_map import edge_map
from mechprobe.figures.effects import site_effects
from mechprobe.figures.faithful import faithfulness_curve
from mechprobe.figures.head_map import head_map, keep_frequency
from mechprobe.figures.layers import layer_curves
from mechprobe.figures.matrices import named_matrix, task_matrix
from mechprobe.figures.null import bars_with_null
from mechprobe.figures.similarity import jaccard_matrix
from mechprobe.figures.spread import accuracy_spread
from mechprobe.figures.staircase import staircase, training_curves
from mechprobe.figures.style import COLUMN, PAGE, save_figure
from mechprobe.figures.task_space import (
    cluster_tree,
    over_steps,
    task_accuracies,
    task_points,
    tuning_frontier,
)
from mechprobe.figures.transfer import gains, memory_and_transfer, procedure_bars

__all__ = [
    "COLUMN",
    "PAGE",
    "accuracy_spread",
    "attention_maps",
    "attention_profile",
    "bars_with_null",
    "circuit_graph",
    "closing_curve",
    "cluster_tree",
    "edge_map",
    "emergence",
    "enrichment_by_height",
    "faithfulness_curve",
    "gains",
    "head_map",
    "jaccard_matrix",
    "keep_frequency",
    "layer_curves",
    "mass_by_height",
    "memory_and_transfer",
    "named_matrix",
    "over_steps",
    "procedure_bars",
    "save_figure",
    "site_effects",
    "sparsity_curve",
    "staircase",
    "task_accuracies",
    "task_matrix",
    "task_points",
    "training_curves",
    "tuning_frontier",
]
