"""Gate vectors through the engine, beside what one would use instead: results/masks.{md,csv}.

    OMP_NUM_THREADS=1 python benchmarks/bench_masks.py --shapes small minilm sweep

The same as ``mechprobe bench masks --out benchmarks/results``: the command is the benchmark.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mechprobe.cli import main

RESULTS = Path(__file__).resolve().parent / "results"

if __name__ == "__main__":
    sys.exit(main(["bench", "masks", "--out", str(RESULTS), *sys.argv[1:]]))
