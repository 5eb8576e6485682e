"""Tasks of the abstraction study: one derivation, two realisers, several vocabularies.

Source: An, Lin, Chen, Fu, Zheng, Lou, "Does Deep Learning Learn to Abstract? A Systematic Probing
Framework", ICLR 2023.
"""

from mechprobe.tasks.abstraction.contrast import CONTRASTS
from mechprobe.tasks.abstraction.load import load_abstraction
from mechprobe.tasks.abstraction.mutations import MUTATIONS
from mechprobe.tasks.abstraction.pairs import SequencePairs
from mechprobe.tasks.abstraction.parallel import load_parallel
from mechprobe.tasks.abstraction.splits import PROBES, AbstractionTasks

__all__ = [
    "CONTRASTS",
    "MUTATIONS",
    "PROBES",
    "AbstractionTasks",
    "SequencePairs",
    "load_abstraction",
    "load_parallel",
]
