"""Where the work runs and in which number format: the one place that decides."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

CPU_BUDGET_BYTES = 128 << 20
"""Working memory that a batch of tiles may take on a CPU, where larger batches gain no speed."""

CPU_TILE_BYTES = 2 << 30
"""Working memory that one tile may take on a CPU."""


def pick_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        ConfigError: the name is unknown, or that device is not there.
    """
    kind, _, index = name.partition(":")
    if kind not in {"auto", "cpu", "cuda", "mps"} or (index and (kind != "cuda" or not index.isdigit())):
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ConfigError(
                f"device {name!r} is not there: torch sees {count} CUDA devices; use --device cpu or auto"
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' is not there on this machine; use --device cpu or auto")
    return torch.device(f"{kind}:{index}" if index else kind)


def pick_dtype(name: str, device: torch.device, tested: Sequence[str]) -> torch.dtype:
    """Return the format called `name`; ``auto`` takes the quickest one that the engine was tested in.

    Args:
        name: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: where it will run.
        tested: the engine's tested formats (`EngineSpec.dtypes`).

    Raises:
        ConfigError: the name is unknown.
    """
    if name == "auto":
        name = next((fast for fast in _fast_dtypes(device) if fast in tested), "float32")
    if name not in DTYPES:
        raise ConfigError(f"dtype must be auto, {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory a batch of tiles may use on `device`, with a fifth kept back on a GPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + reserved) * 4 // 5
    if device.type == "mps":
        return (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) * 4 // 5
    return CPU_BUDGET_BYTES


def tile_memory_bytes(device: torch.device) -> int:
    """Return the memory that one tile alone may take: what is free on a GPU, `CPU_TILE_BYTES` on a CPU."""
    return CPU_TILE_BYTES if device.type == "cpu" else free_memory_bytes(device)


def release_cached_memory(device: torch.device) -> None:
    """Give unused blocks of our own process back to the device, before a retry with less."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def describe_device(device: torch.device) -> str:
    """Return a name for reports: ``NVIDIA H200``, ``CPU (2 threads, AMX bfloat16)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        units = cpu_bfloat16_units()
        return f"CPU ({torch.get_num_threads()} threads{f', {units} bfloat16' if units else ''})"
    return device.type.upper()


def cpu_bfloat16_units() -> str | None:
    """Return the name of the CPU's bfloat16 matrix units (``AMX`` or ``AVX512``), or None where it has none."""
    if not hasattr(torch.cpu, "get_capabilities"):  # torch < 2.11; torch < 2.5 does not know AMX either
        known = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return "AMX" if known() else None
    capabilities = torch.cpu.get_capabilities()
    return next(
        (n for n, key in (("AMX", "amx_bf16"), ("AVX512", "avx512_bf16")) if capabilities.get(key)), None
    )


def _fast_dtypes(device: torch.device) -> tuple[str, ...]:
    if device.type == "cuda":
        return (
            ("bfloat16", "float16")
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else ("float16",)
        )
    if device.type == "cpu":
        return ("bfloat16",) if cpu_bfloat16_units() else ()
    return ("float16",)
