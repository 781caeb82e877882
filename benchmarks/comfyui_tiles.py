"""Tiled Encode and Tiled Decode against ComfyUI's own tiled nodes: time and seams, on the same VAE.

    COMFYUI_PYTHON benchmarks/comfyui_tiles.py COMFYUI [SIDE [WIDTH]] > benchmarks/results/comfyui_tiles.json

Runs in ComfyUI's environment, on its CPU; all nodes with their defaults. The VAE is Stable Diffusion's in full size
with random numbers, in the format that ComfyUI chooses. The seam measure is the mean step across the lines where a
tile begins or ends ÷ that across the other lines; 1 is no seam. CPU seconds are those of the process, which other
work on the machine changes little. SIDE is 1024 px unless given; up to 864 px the plugin needs one tile only, and there
is no seam to measure. WIDTH is the VAE's, 128 unless given: a thin one shows that all of this runs. Prints JSON.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
DDCONFIG: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def main() -> None:
    comfyui = sys.argv[1]
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
    width = int(sys.argv[3]) if len(sys.argv) > 3 else DDCONFIG["ch"]
    sys.path.insert(0, comfyui)
    sys.argv = [sys.argv[0]]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import nodes as stock

    plugin = load_plugin()
    seams = sys.modules[plugin_name() + ".hypir_core.metrics.seams"]
    plans = sys.modules[plugin_name() + ".hypir_core.tiling.plan"]
    parts = sys.modules[plugin_name() + ".hypir_core.engines.diffusion.parts"]
    plan = plans.plan_tiles((side, side), parts.VAE_TILE, grain_px=8)
    vae = random_vae(width)
    picture = smooth_picture(side)
    size = {"size_rule": "scale", "scale": 1.0, "longest_side_px": 2048, "megapixels": 4.0}
    tiles = {"tile_px": 0, "overlap_px": 0}
    results: dict[str, Any] = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        out = run()
        results[name] = {
            "wall_s": round(time.perf_counter() - wall, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
        }
        print(name, results[name], file=sys.stderr)
        return out

    with torch.inference_mode():
        vae.encode(picture[:, :64, :64])  # loads the VAE, for both
        ours = timed(
            "encode, ours", lambda: plugin["HypirTiledEncode"].execute(picture, vae, **size, **tiles)[0]
        )
        core = timed("encode, core", lambda: stock.VAEEncodeTiled().encode(vae, picture, 512, 64)[0])
        latent = {"samples": torch.randn(1, 4, side // 8, side // 8, generator=torch.manual_seed(5))}
        image = timed("decode, ours", lambda: plugin["HypirTiledDecode"].execute(latent, vae, **tiles)[0])
        core_image = timed("decode, core", lambda: stock.VAEDecodeTiled().decode(vae, latent, 512, 64)[0])

    own = inner_edges([edge for start, length in plan.axes[0] for edge in (start, start + length)], side)
    theirs = core_edges(side)
    for name, tensor, edges, unit in (
        ("encode, ours", ours["samples"], own, 8),
        ("encode, core", core["samples"], theirs, 8),
        ("decode, ours", image.movedim(-1, 1), own, 1),
        ("decode, core", core_image.movedim(-1, 1), theirs, 1),
    ):
        lines = sorted({edge // unit for edge in edges})
        results[name]["seam"] = round(seams.seam_measure(tensor, lines, lines), 4)
    for what in ("encode", "decode"):
        mine, other = results[f"{what}, ours"], results[f"{what}, core"]
        results[f"{what}, times faster"] = {
            key: round(other[key] / mine[key], 2) for key in ("wall_s", "cpu_s")
        }
    facts = {
        "side_px": side,
        "vae_dtype": str(vae.vae_dtype),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "tiles_ours": plan.summary(),
    }
    print(json.dumps(facts | {"results": results}, indent=2))


def plugin_name() -> str:
    return str(ROOT).replace(".", "_x_")


def load_plugin() -> dict[str, Any]:
    """Load the plugin as ComfyUI does; node id → class."""
    spec = importlib.util.spec_from_file_location(
        plugin_name(), ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[plugin_name()] = module
    spec.loader.exec_module(module)
    importlib.import_module(plugin_name() + ".hypir_core.metrics.seams")
    extension = asyncio.run(module.comfy_entrypoint())
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


def random_vae(width: int = DDCONFIG["ch"]) -> Any:
    """Return ComfyUI's VAE of Stable Diffusion; weights N(0, 1/fan_in), norms 1, biases 0.

    The width is that of its widest layers ÷ 4; the tests use a thin one.
    """
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    params = {"embed_dim": 4, "ddconfig": DDCONFIG | {"ch": width}}
    net = AutoencoderKL(**params)
    rng = torch.Generator().manual_seed(231)
    weights = {}
    for name, old in net.state_dict().items():
        if old.ndim > 1:
            weights[name] = torch.randn(old.shape, generator=rng) / math.sqrt(old[0].numel())
        else:
            weights[name] = torch.full(old.shape, float(name.endswith(".weight")))
    return comfy.sd.VAE(sd=weights, config={"params": params})


def smooth_picture(side: int) -> torch.Tensor:
    """Return a picture [1 side side 3] in [0,1] without edges of its own."""
    coarse = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(11))
    picture = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return picture.clamp(0, 1).movedim(1, -1)


def inner_edges(edges: list[int], side: int) -> list[int]:
    """Return the places of tile edges that lie inside the picture."""
    return sorted({edge for edge in edges if 0 < edge < side})


def core_edges(side: int) -> list[int]:
    """Return where the tiles of the three passes of ComfyUI's nodes begin and end along a side."""
    edges = []
    for tile in (256, 512, 1024):
        starts = [0] if side <= tile else [min(side - 64, start) for start in range(0, side - 64, tile - 64)]
        edges += [edge for start in starts for edge in (start, min(start + tile, side))]
    return inner_edges(edges, side)


if __name__ == "__main__":
    main()
