"""What a run writes down about itself."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
from pathlib import Path

import accelerate
import torch
import yaml

import hypir_core
from hypir_core.config import to_plain
from hypir_core.errors import ConfigError

from ..config import TrainConfig

log = logging.getLogger(__name__)


def describe_run(config: TrainConfig, *, data_hash: str, processes: int) -> str:
    """Write ``config.yaml`` and ``run.json`` into the run folder, log the config once, and return the commit.

    Raises:
        ConfigError: output_dir cannot be written.
    """
    text = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    commit = current_commit()
    about = {
        "commit": commit,
        "data_hash": data_hash,
        "processes": processes,
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "machine": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "CPU",
    }
    try:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        (config.output_dir / "config.yaml").write_text(text, encoding="utf-8")
        (config.output_dir / "run.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    except OSError as err:
        raise ConfigError(
            f"output_dir: {config.output_dir} cannot be written ({err.strerror or err})"
        ) from err
    log.info("resolved config (also in %s):\n%s", config.output_dir / "config.yaml", text)
    return commit


def current_commit() -> str:
    """Return the commit of this checkout, with ``+`` when files differ from it, or ``unknown``."""
    folder = Path(hypir_core.__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603, S607  # fixed arguments
    return done.stdout.strip()
