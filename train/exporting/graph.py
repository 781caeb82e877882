"""A generator as ONNX or TorchScript: file values in, file values out, any size."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hypir_core.atomic import atomic_file
from hypir_core.engines.feed_forward.load import built
from hypir_core.errors import ConfigError, FileError, HypirError, MissingDependencyError
from hypir_core.image.ranges import AnyRange
from hypir_core.weights.spec import GeneratorSpec, WeightsSpec, spec_to_metadata

ENDINGS = {".onnx": "onnx", ".ts": "torchscript"}
"""Of files → what they hold."""

TOLERANCE = 1e-4
"""Largest difference to torch, relative to the largest value."""

TRIED = {2: ((16, 16), (24, 20)), 3: ((8, 16, 16), (6, 20, 12))}
"""Sides that are traced with, and others that are checked with."""

OPSET = 17

log = logging.getLogger(__name__)


class Whole(nn.Module):
    """A generator between its ranges."""

    def __init__(self, net: nn.Module, taken: AnyRange, given: AnyRange):
        super().__init__()
        self.net = net
        self._taken, self._given = taken, given

    def forward(self, x: Tensor) -> Tensor:
        """Return file values [b out *cells·scale] of file values [b in *cells]."""
        return self._given.undo(self.net(self._taken.apply(x)))


def whole_network(tensors: Mapping[str, Tensor], spec: WeightsSpec, where: Path) -> Whole:
    """Build the generator of a spec with its ranges.

    Raises:
        ConfigError: it is no such generator, takes a latent, or its range is fitted on each picture.
    """
    if not isinstance(spec, GeneratorSpec):
        raise ConfigError(f"{where}: only a generator that goes from pixels to pixels can be a graph")
    ranges = spec.value_range, spec.out_range or spec.value_range
    for each in ranges:
        if each.needs_scene:
            raise ConfigError(
                f"{where}: its range {each.kind.value} is fitted on each picture, which a graph cannot do; train with "
                "fit: dataset or fit: file"
            )
    net = built(spec, where)
    if getattr(net, "noise_dim", 0):
        raise ConfigError(f"{where}: this generator draws a latent, which a graph has no place for")
    net.load_state_dict(dict(tensors))
    return Whole(net.eval().requires_grad_(False), *(each.fixed for each in ranges)).eval()


def write_graph(path: Path, tensors: Mapping[str, Tensor], spec: WeightsSpec) -> None:
    """Write a generator as the ending of `path` says, then run the file on another size and compare with torch.

    Raises:
        ConfigError: the ending is unknown, or the generator cannot be a graph.
        MissingDependencyError: a package is not installed.
        HypirError: the file gives other results than torch; it is not written then.
    """
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"-o: expected a name that ends in .safetensors or {' or '.join(ENDINGS)}, got {path}"
        )
    whole = whole_network(tensors, spec, path)
    assert isinstance(spec, GeneratorSpec)
    traced, other = (_example(whole, spec, sides) for sides in TRIED[spec.dims])
    content = _onnx(whole, traced, spec) if kind == "onnx" else _torchscript(whole, traced, spec)
    found = _run_onnx(content, other) if kind == "onnx" else _run_torchscript(content, other)
    with torch.no_grad():
        expected = whole(other)
    scale = max(1e-12, float(expected.abs().max()))
    off = float((found - expected).abs().max()) / scale if found.shape == expected.shape else float("inf")
    if not off <= TOLERANCE:
        raise HypirError(
            f"{path}: the {kind} gives other results than torch (off by {off:.2g} of the largest value), so it is not "
            "written"
        )
    with atomic_file(path, error=FileError) as file:
        file.write(content)
    log.info("%s agrees with torch to %.1e on another size", path, off)


def _example(whole: Whole, spec: GeneratorSpec, sides: tuple[int, ...]) -> Tensor:
    """Return file values between black and white."""
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand((1, spec.in_channels, *sides), generator=generator)
    black, white = whole._taken.black_white
    return whole._taken.undo(black + (white - black) * unit).float()


def _torchscript(whole: Whole, example: Tensor, spec: GeneratorSpec) -> bytes:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer names every size that it reads; other sizes are checked
        script = torch.jit.trace(whole, example, check_trace=False)
    buffer = io.BytesIO()
    torch.jit.save(script, buffer, _extra_files={"hypir.json": json.dumps(spec_to_metadata(spec))})
    return buffer.getvalue()


def _run_torchscript(content: bytes, example: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.jit.load(io.BytesIO(content))(example)


def _onnx(whole: Whole, example: Tensor, spec: GeneratorSpec) -> bytes:
    try:
        import onnx  # pyright: ignore[reportMissingImports]
    except ImportError as err:
        raise MissingDependencyError("onnx", "export", "a file for ONNX") from err
    free = {0: "batch", **{2 + axis: name for axis, name in enumerate("zyx"[-spec.dims :])}}
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # as above, and that this exporter is the older one, which needs less
        torch.onnx.export(
            whole,
            (example,),
            buffer,  # pyright: ignore[reportArgumentType]  # the older exporter writes to files that are open
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={
                "input": free,
                "output": {axis: f"{name}_out" for axis, name in free.items() if axis},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    for key, value in spec_to_metadata(spec).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def _run_onnx(content: bytes, example: Tensor) -> Tensor:
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as err:
        raise MissingDependencyError("onnxruntime", "export", "checking a file for ONNX") from err
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": example.numpy()})
    return torch.from_numpy(np.asarray(found))
