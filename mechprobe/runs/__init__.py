"""Run directories: resolved config, results written whole, and work that survives a kill."""

from mechprobe.runs.checkpoint import Checkpoint
from mechprobe.runs.config import read_config
from mechprobe.runs.files import atomic_path, atomic_write
from mechprobe.runs.progress import progress
from mechprobe.runs.run import Run
from mechprobe.runs.unit_file import finished
from mechprobe.runs.units import Unit, complete, with_needs

__all__ = [
    "Checkpoint", "Run", "Unit", "atomic_path", "atomic_write", "complete", "finished", "progress",
    "read_config", "with_needs",
]
