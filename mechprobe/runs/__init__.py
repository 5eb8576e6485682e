"""Run directories: resolved config, results written whole, and work that survives a kill."""

from mechprobe.runs.checkpoint import Checkpoint
from mechprobe.runs.files import atomic_path, atomic_write
from mechprobe.runs.progress import progress
from mechprobe.runs.run import Run, read_config

__all__ = ["Checkpoint", "Run", "atomic_path", "atomic_write", "progress", "read_config"]
