"""Collect photographs that a restorer may be trained on: public domain, CC0 and CC-BY only.

    uv run python scripts/fetch_training_photos FOLDER [--packages WORK_FOLDER] [--tiles TILE_FOLDER]

Takes them from Debian packages (`apt-get download`, `dpkg-deb`: on a Debian-like system), checks what the package says
about each one against the list in `licences.py`, and writes FOLDER/*.jpg|png, FOLDER/ATTRIBUTION.md (who made what,
under which licence, with the SHA-256 of the file) and FOLDER/REFUSED.md (what was left, and why). Pictures with an
alpha channel (cut-outs) and those of fewer than 200 px are left too. Nothing is changed in a picture. With --tiles
they are also cut into tiles to train on, see `tiles.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from licences import refusal
from PIL import Image
from sources import PICTURE_ENDINGS, SOURCES, Found
from tiles import write_drawings, write_tiles

MIN_SIDE_PX = 200
TILE_PX = 384
DRAWINGS = 30


def unpacked(package: str, work: Path) -> Path | None:
    """Download and unpack a package; return the folder that holds its files, None where apt does not know it.

    An archive that lies in `work`/downloads already is taken from there: so a package of another release can be used.
    """
    root = work / package
    if root.is_dir():
        return root
    downloads = work / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    archives = sorted(downloads.glob(f"{package}_*.deb"))
    if not archives:
        known = subprocess.run(["apt-cache", "show", package], capture_output=True, check=False)
        if known.returncode != 0:
            return None
        subprocess.run(["apt-get", "-qq", "download", package], cwd=downloads, check=True)
        archives = sorted(downloads.glob(f"{package}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(archives[-1]), str(root)], check=True)
    return root


def unusable(content: bytes) -> str | None:
    """Why a file is no photograph to train on; None where it is one."""
    with Image.open(BytesIO(content)) as picture:
        if picture.mode not in ("RGB", "L"):
            return f"its pixels are {picture.mode}, not RGB or grey"
        if min(picture.size) < MIN_SIDE_PX:
            return f"{picture.width}×{picture.height}: a side is below {MIN_SIDE_PX} px"
    return None


def file_name(found: Found) -> str:
    ending = ".png" if found.path.endswith(".dat") else Path(found.path).suffix.lower()
    return f"{found.package}--{Path(found.path).stem}{ending}"


def collect(folder: Path, work: Path) -> tuple[list[str], list[str]]:
    """Write the allowed pictures into `folder`; return the lines of the two lists."""
    taken: dict[str, str] = {}
    left: list[str] = []
    for source in SOURCES:
        root = unpacked(source.package, work)
        if root is None:
            print(
                f"{source.package} is left out: apt does not know it here. Newer releases of Debian or Ubuntu have it "
                f"(packages.debian.org, packages.ubuntu.com); a .deb laid into {work / 'downloads'} is used too"
            )
            continue
        for found in source.pictures(root):
            digest = hashlib.sha256(found.content).hexdigest()
            why_not = refusal(found.terms, found.path) or unusable(found.content)
            if why_not is None and digest in taken:
                why_not = "the same file as another"
            if why_not is not None or found.terms is None:
                left.append(f"| {found.package} | `{found.path}` | {why_not} |")
                continue
            name = file_name(found)
            (folder / name).write_bytes(found.content)
            terms = found.terms
            taken[digest] = (
                f"| `{name}` | {terms.author or 'unnamed'} | {terms.licence} | {terms.link} | {digest[:16]} |"
            )
    return list(taken.values()), left


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, help="keep downloaded packages here")
    parser.add_argument("--tiles", type=Path, help="also write tiles to train on here")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        taken, left = collect(given.folder, given.packages or Path(scratch))
    lists = (
        ("ATTRIBUTION.md", "| file | by | licence | from | SHA-256 begins |\n|---|---|---|---|---|", taken),
        ("REFUSED.md", "| package | file | why |\n|---|---|---|", left),
    )
    for name, head, lines in lists:
        (given.folder / name).write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    print(
        f"{len(taken)} pictures taken, {len(left)} left: see ATTRIBUTION.md and REFUSED.md in {given.folder}"
    )
    if given.tiles is not None:
        given.tiles.mkdir(parents=True, exist_ok=True)
        photos = sorted(path for path in given.folder.iterdir() if path.suffix in PICTURE_ENDINGS)
        write_drawings(given.tiles, DRAWINGS, TILE_PX)
        counts = [write_tiles(photo, given.tiles, TILE_PX) for photo in photos]
        print(
            f"{sum(n for n, _ in counts)} tiles written, {sum(n for _, n in counts)} flat (few kept), {DRAWINGS} drawn"
        )


if __name__ == "__main__":
    main()
