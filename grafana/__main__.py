"""`python -m grafana` writes grafana/dashboards/Paxos/*.json and docs/dashboards.md."""

from pathlib import Path

from grafana.layout import FOLDER, written
from grafana.pages import PAGES
from grafana.sketch import document

HERE = Path(__file__).parent


def generated() -> dict[Path, str]:
    """The generated files and what belongs in them."""
    files = {HERE / "dashboards" / FOLDER / f"{page.name}.json": written(page) for page in PAGES}
    return {**files, HERE.parent / "docs" / "dashboards.md": document(PAGES)}


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
