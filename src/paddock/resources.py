"""Where the files that ship with paddock are: settings, templates, examples."""

from pathlib import Path


def conf_folder() -> Path:
    """The folder `conf`: inside the package when installed, beside `src` in a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"
