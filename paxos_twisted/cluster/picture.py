"""What a console has shown, as an SVG picture that loads nothing from anywhere."""

import re
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme

FONTS: Final = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"

THEME: Final = TerminalTheme(
    (22, 27, 34),
    (214, 221, 228),
    [
        (48, 54, 61),
        (248, 113, 104),
        (86, 211, 100),
        (227, 179, 65),
        (108, 164, 248),
        (188, 140, 255),
        (86, 212, 221),
        (214, 221, 228),
    ],
)
"""Dark and calm: readable on a light and on a dark page."""

_FONT_FACE: Final = re.compile(r"@font-face \{.*?\n\s*\}\s*", re.DOTALL)
_FAMILY: Final = re.compile(r"font-family: (Fira Code, monospace|arial)")


def save_picture(console: Console, path: Path, title: str) -> None:
    """Write what `console` (made with record=True) has shown.

    Raises:
        OSError: the file cannot be written.
    """
    text = console.export_svg(title=title, theme=THEME, clear=False, unique_id="paxos")
    text = _FAMILY.sub(f"font-family: {FONTS}", _FONT_FACE.sub("", text))
    lines = [line.rstrip() for line in text.splitlines()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
