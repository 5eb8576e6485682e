"""Models whose circuit is known, and disguises that change their weights but not what they do."""

from mechprobe.planted.cases import Case, load_case

__all__ = ["Case", "load_case"]
