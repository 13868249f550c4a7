"""Where the files that ship with paddock are: settings, templates, examples."""

from pathlib import Path


def conf_folder() -> Path:
    """The folder `conf`: inside the package when installed, beside `src` in a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def page(name: str) -> str:
    """The text of one of the HTML pages that ship inside the package."""
    return (Path(__file__).parent / "pages" / name).read_text(encoding="utf-8")
