"""Seconds from queueing the quick-restore workflow to its result, in a running ComfyUI.

    uv run python benchmarks/comfyui_quick.py URL PHOTO > benchmarks/results/comfyui_quick.json

Queues the workflow three times, each time with other numbers so that nothing is cached; the first run also reads the
weights. PHOTO lies in ComfyUI's input folder. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

WORKFLOW = Path(__file__).resolve().parents[1] / "workflows" / "api" / "restore_quick_no_download.json"
RUNS = 3


def main() -> None:
    url, photo = sys.argv[1:3]
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    load, restore = (
        next(node for node in workflow.values() if node["class_type"] == kind)
        for kind in ("LoadImage", "HypirRestoreImage")
    )
    load["inputs"]["image"] = photo
    seconds = []
    for run in range(RUNS):
        restore["inputs"]["color_strength"] = 1 - run / 100
        start = time.perf_counter()
        prompt_id = ask(f"{url}/prompt", {"prompt": workflow})["prompt_id"]
        while not (history := ask(f"{url}/history/{prompt_id}")):
            time.sleep(0.02)
        status = history[prompt_id]["status"]
        if status["status_str"] != "success":
            sys.exit(json.dumps(status, indent=2))
        seconds.append(round(time.perf_counter() - start, 2))
    system = ask(f"{url}/system_stats")
    facts = {
        "seconds": seconds,
        "photo": photo,
        "devices": [device["name"] for device in system["devices"]],
        "comfyui": system["system"]["comfyui_version"],
        "torch": system["system"]["pytorch_version"],
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }
    print(json.dumps(facts, indent=2))


def ask(url: str, data: Any = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


if __name__ == "__main__":
    main()
