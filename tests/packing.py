"""What `comfy node pack` would put into the archive for ComfyUI's Registry, without that tool."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def packed_files() -> list[str]:
    """Return the files that git tracks, or would track, without those that .comfyignore names.

    Raises:
        FileNotFoundError, CalledProcessError: there is no git, or this is no checkout.
    """

    def listed(*arguments: str) -> set[str]:
        command = ["git", "ls-files", "-z", "--cached", "--others", *arguments]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        return {name for name in answer.decode().split("\0") if name and (ROOT / name).is_file()}

    return sorted(listed("--exclude-standard") - listed("--ignored", "--exclude-from=.comfyignore"))
