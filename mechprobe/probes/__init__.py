"""Probes of every stream of a model at once: trees, labels, controls and baselines."""

from mechprobe.probes.activations import WordVectors, word_vectors
from mechprobe.probes.ancestors import (
    LeafVectors,
    ancestor_task,
    block_control,
    fit_ancestor_probes,
    hits_by_sequence,
    leaf_vectors,
    observer_posteriors,
    reach_table,
)
from mechprobe.probes.bank import ProbeBank, bank_losses, by_layer, fit_bank
from mechprobe.probes.fitting import ProbeSettings
from mechprobe.probes.head_choice import head_objective
from mechprobe.probes.linear import (
    WordTask,
    control_task,
    label_accuracy,
    linear_objective,
    mlp_objective,
    selectivity,
    tag_task,
)
from mechprobe.probes.objective import Objective
from mechprobe.probes.pseudo_labels import depth_histogram, flat_share, pseudo_labels
from mechprobe.probes.regulariser import TopologyRegulariser
from mechprobe.probes.sentence_scores import SentenceScore, difference
from mechprobe.probes.structural import depth_objective, distance_objective
from mechprobe.probes.structural_scores import TreeScores, score_depths, score_distances
from mechprobe.probes.topology import (
    FlatTopology,
    TopologyScores,
    profile_errors,
    topology_objective,
    topology_scores,
)
from mechprobe.probes.tree_baselines import (
    chain_depth_scores,
    chain_distance_scores,
    random_depth_scores,
    random_distance_scores,
)

__all__ = [
    "FlatTopology",
    "LeafVectors",
    "Objective",
    "ProbeBank",
    "ProbeSettings",
    "SentenceScore",
    "TopologyRegulariser",
    "TopologyScores",
    "TreeScores",
    "WordTask",
    "WordVectors",
    "ancestor_task",
    "bank_losses",
    "block_control",
    "by_layer",
    "chain_depth_scores",
    "chain_distance_scores",
    "control_task",
    "depth_histogram",
    "depth_objective",
    "difference",
    "distance_objective",
    "fit_ancestor_probes",
    "fit_bank",
    "flat_share",
    "head_objective",
    "hits_by_sequence",
    "label_accuracy",
    "leaf_vectors",
    "linear_objective",
    "mlp_objective",
    "observer_posteriors",
    "profile_errors",
    "pseudo_labels",
    "random_depth_scores",
    "random_distance_scores",
    "reach_table",
    "score_depths",
    "score_distances",
    "selectivity",
    "tag_task",
    "topology_objective",
    "topology_scores",
    "word_vectors",
]
