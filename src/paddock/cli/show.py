"""What people see: tables, progress bars, plain sentences. Everything that came from outside is stripped of escapes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from paddock.logs import clean

if TYPE_CHECKING:
    from rich.progress import Progress


class Screen:
    """Prints results: for people, or as JSON when `as_json`."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def data(self, value: Any) -> None:
        """Print a value as JSON, every character that a terminal may act on as its escape."""
        text = json.dumps(value, indent=2, ensure_ascii=False)
        if not text.replace("\n", "").isprintable():
            text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
        sys.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """Print a sentence; silent with --json."""
        if not self.as_json:
            sys.stdout.write("\n".join(clean(line) for line in text.splitlines()) + "\n")

    def raw(self, text: str) -> None:
        """Print a piece of a model's answer at once, without terminal escapes."""
        sys.stdout.write("".join(c if c.isprintable() or c in "\n\t" else "" for c in text))
        sys.stdout.flush()

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], value: Any, *, whole: str | None = None
    ) -> None:
        """Print rows under their columns, or `value` as JSON. The column `whole` gives way last where the screen is narrow."""
        if self.as_json:
            self.data(value)
            return
        from rich import box  # noqa: PLC0415  rich is heavy: only where it prints
        from rich.console import Console  # noqa: PLC0415  heavy
        from rich.table import Column, Table  # noqa: PLC0415  heavy
        from rich.text import Text  # noqa: PLC0415  heavy

        table = Table(*(Column(name, no_wrap=name == whole) for name in columns), box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*(Text(clean(" ".join(str("" if cell is None else cell).split()))) for cell in row))
        Console().print(table)

    @contextmanager
    def progress(self, *, of_bytes: bool = False) -> Iterator[Progress]:
        """A progress bar on standard error, with sizes where it counts bytes; nothing with --json. Descriptions must be clean
        already."""
        from rich.console import Console  # noqa: PLC0415  heavy
        from rich.progress import (  # noqa: PLC0415  heavy
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )

        sizes = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else ()
        bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            *sizes,
            TimeElapsedColumn(),
            console=Console(stderr=True, quiet=self.as_json),
        )
        with bars:
            yield bars
