"""How fast video becomes rows, from open to rows on disk, and where the time goes: ``specktrack bench``.

    python benchmarks/annotate.py [VIDEO ...]          default: rendered 1280x720 video

Every line is measured in this run, on this machine; quote ratios.
"""

import sys

from specktrack.cli.display import show
from specktrack.verbs.bench import BenchConfig, bench

if __name__ == "__main__":
    show(bench(BenchConfig(sources=tuple(sys.argv[1:]))))
