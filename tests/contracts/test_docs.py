"""The documentation is true: links lead somewhere, names are in the code, the tutorial runs, the hour is an hour."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hypir_core.version import VERSION

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
MOST_LINES = 1400


def links(page: Path) -> list[tuple[str, str]]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [(m["text"], m["target"]) for m in LINK.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for _text, target in links(page):
        if not target.startswith(("http", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("name", ["picture.md", "training-step.md"])
def test_every_name_of_a_walk_is_where_the_link_says(name):
    page = DOCS / "explain" / name
    named = 0
    for text, target in links(page):
        path = page.parent / target
        if path.suffix != ".py":
            continue
        word = text.strip("`")
        code = path.read_text(encoding="utf-8")
        assert re.search(rf"^\s*(?:async )?(?:def|class) {word}\b|^{word}\b.*=", code, re.MULTILINE), (
            word,
            target,
        )
        named += 1
    assert named >= 12
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 80, "a walk is one page"


def test_the_hour_of_reading_is_an_hour():
    page = DOCS / "explain" / "reading-list.md"
    files = {page.parent / target for _text, target in links(page) if target.endswith(".py")}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    assert len(files) >= 8
    assert lines <= MOST_LINES, lines


def test_the_tutorial_is_an_engine_in_sixty_lines(capsys):
    text = (DOCS / "how-to" / "write-an-engine.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 60
    names: dict[str, object] = {}
    # The dataclass reads its own source for its docs; a page has none to offer.
    exec(compile("\n".join(blocks), "write-an-engine.md", "exec"), names)
    assert "2×2 tiles" in capsys.readouterr().out
    restored = names["restored"]
    assert restored.report.settings == {"amount": 1.0}  # type: ignore[attr-defined]


def test_tiles_of_the_tutorials_engine_cannot_be_seen():
    import torch

    from hypir_core import Request, Runtime, TileWish, restore

    text = (DOCS / "how-to" / "write-an-engine.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(compile(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], "write-an-engine.md", "exec"), names)
    engine = names["Sharpen"](names["SharpenOptions"](amount=0.7))
    picture = torch.rand(1, 3, 90, 70)
    tiled, whole = (
        restore(engine, picture, Request(tile=TileWish(tile_px=side, overlap_px=4)), Runtime()).image_01
        for side in (24, 200)
    )
    torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=0)


def test_a_cluster_takes_fifteen_lines():
    """Slurm, Kubernetes and Ray: short enough to be copied, and what they name is what `--shard auto` reads."""
    import yaml
    from click import Context
    from typer.main import get_command

    from hypir_core.batch.shards import SCHEDULERS
    from hypir_core.cli.app import app

    text = (DOCS / "how-to" / "many-pictures.md").read_text(encoding="utf-8")
    known = get_command(app).get_command(Context(get_command(app)), "restore")  # type: ignore[attr-defined]
    flags = {flag for option in known.params for flag in option.opts}
    blocks = dict(re.findall(r"^### (\w+)\n```\w+\n(.*?)```", text, re.DOTALL | re.MULTILINE))
    assert set(blocks) == {"Slurm", "Kubernetes", "Ray"}
    for name, block in blocks.items():
        assert len(block.splitlines()) <= 15, name
        assert set(re.findall(r"(?<=\s)--[a-z-]+(?=[ ,=\n])", block.partition("hypir")[2])) <= flags, name
    job = yaml.safe_load(blocks["Kubernetes"])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    count = next(count for index, count, _ in SCHEDULERS if index == "JOB_COMPLETION_INDEX")
    assert [entry["name"] for entry in container["env"]] == [count]
    assert int(container["env"][0]["value"]) == job["spec"]["completions"]
    assert container["command"][:2] == ["hypir", "restore"]
    assert container["command"][-2:] == ["--shard", "auto"]


def test_decisions_are_listed():
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    for path in (DOCS / "decisions").glob("0*.md"):
        assert path.name in index


def test_the_version_is_one():
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
