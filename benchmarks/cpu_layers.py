"""Layers of the one-step networks on a CPU, each as diffusers has it and as it was tried: seconds and processor seconds.

    uv run python benchmarks/cpu_layers.py [--dtype bfloat16] > benchmarks/results/cpu_layers.json

The quickest of five. Processor seconds, of all threads, say more on a machine that does other things. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypir_core.models.layers.cpu_attention import attention
from hypir_core.models.layers.fast_layers import fold_enlargement
from hypir_core.models.layers.shared_norms import SharedNorms

REPEATS = 5

ENLARGEMENTS = ((256, 256), (512, 128), (512, 64), (1280, 16))
"""(channels, side of the input): the decoder's three of a 512 px tile, and one of the UNet's."""

ATTENTIONS = ((5, 5184, 64), (10, 1296, 64), (1, 4624, 512))
"""(heads, tokens, width of a head): the UNet's first two levels at 576 px, the VAE's at 544 px."""

NORMS = ((128, 528), (256, 264), (512, 132))
"""(channels, side): the decoder's last three levels at 528 px."""

TEXT_WIDTHS = (320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320)
"""Width of each of the UNet's attentions over the text, whose 77 tokens are 1024 wide."""


def quickest(work: Callable[[], Tensor]) -> dict[str, float]:
    seconds, cpu_seconds = [], []
    for _ in range(REPEATS):
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {"seconds": round(min(seconds), 4), "cpu_seconds": round(min(cpu_seconds), 4)}


def enlargements(dtype: torch.dtype) -> list[dict[str, object]]:
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    rows = []
    for channels, side in ENLARGEMENTS:
        x = torch.randn(1, channels, side, side).to(dtype, memory_format=layout)
        weight, bias = torch.randn(channels, channels, 3, 3), torch.randn(channels).to(dtype)
        plain, folded = (w.to(dtype, memory_format=layout) for w in (weight, fold_enlargement(weight)))
        ways = {
            "enlarge, convolve": lambda: F.conv2d(
                F.interpolate(x, scale_factor=2.0, mode="nearest"),  # noqa: B023
                plain,  # noqa: B023
                bias,  # noqa: B023
                padding=1,
            ),
            "transposed convolution": lambda: F.conv_transpose2d(x, folded, bias, stride=2, padding=1),  # noqa: B023
        }
        rows += [{"layer": f"{channels} channels, {side}²", "way": k, **quickest(w)} for k, w in ways.items()]
    return rows


def attentions(dtype: torch.dtype) -> list[dict[str, object]]:
    rows = []
    for heads, tokens, width in ATTENTIONS:
        q, k, v = (torch.randn(1, tokens, heads, width).to(dtype).transpose(1, 2) for _ in range(3))
        ways = {
            "torch's fused kernel": lambda: F.scaled_dot_product_attention(q, k, v),  # noqa: B023
            "ours": lambda: attention(q, k, v),  # noqa: B023
        }
        layer = f"{heads} heads of {width}, {tokens} tokens"
        rows += [{"layer": layer, "way": name, **quickest(way)} for name, way in ways.items()]
    return rows


def norms(dtype: torch.dtype) -> list[dict[str, object]]:
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    rows = []
    for channels, side in NORMS:
        x = torch.randn(1, channels, side, side).to(dtype, memory_format=layout)
        norm = nn.GroupNorm(32, channels).to(dtype)
        shared = SharedNorms(norm)
        with shared.gathering(torch.ones(1, 1)) as found:
            norm(x)
        layer = f"group norm, {channels} channels, {side}²"
        rows.append({"layer": layer, "way": "each tile's own statistics", **quickest(lambda: norm(x))})  # noqa: B023
        with shared.using(found):
            rows.append({"layer": layer, "way": "given statistics", **quickest(lambda: norm(x))})  # noqa: B023
    return rows


def text_products(dtype: torch.dtype) -> list[dict[str, object]]:
    tokens = torch.randn(1, 77, 1024).to(dtype)
    weights = [torch.randn(width, 1024).to(dtype) for width in TEXT_WIDTHS for _ in range(2)]
    seconds = quickest(lambda: [F.linear(tokens, w) for w in weights][-1])
    return [{"layer": "keys and values of the text", "way": "once more for every batch of tiles", **seconds}]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    dtype = getattr(torch, parser.parse_args().dtype)
    found = {
        "dtype": str(dtype),
        "results": enlargements(dtype) + attentions(dtype) + norms(dtype) + text_products(dtype),
        "torch": torch.__version__,
    }
    print(json.dumps(found, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
