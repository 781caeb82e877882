"""mkdocs hook: links from the documentation into the code lead to the repository."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

SOURCE = "https://github.com/onestep-restore/onestep-restore/blob/main/"
LINK = re.compile(r"\]\((?P<ups>(?:\.\./)+)(?P<rest>[^)]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return a page whose links to files above ``docs/`` name them on the web."""
    depth = len(PurePosixPath(page.file.src_uri).parts)

    def rewritten(link: re.Match[str]) -> str:
        above = link["ups"].count("../") >= depth
        return f"]({SOURCE}{link['rest']})" if above else link[0]

    return LINK.sub(rewritten, markdown)
