"""Average two weight files of one architecture (model soup: Wortsman et al., arXiv 2203.05482).

    uv run python scripts/average_weights.py A.safetensors B.safetensors OUT.safetensors

Both halves weigh the same; the spec is taken from B, the later one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hypir_core.weights.tensors import read_tensors, write_tensors


def main() -> None:
    first, second, out = (Path(word) for word in sys.argv[1:4])
    a, b = read_tensors(first), read_tensors(second)
    write_tensors(out, {name: (a.tensors[name] + b.tensors[name]) / 2 for name in a.tensors}, b.metadata)


if __name__ == "__main__":
    main()
