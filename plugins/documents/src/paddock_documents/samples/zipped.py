"""ZIP archives, which most document formats are."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def archive(entries: Mapping[str, str | bytes], *, stored: Sequence[str] = ()) -> bytes:
    """A ZIP file; the entries named in `stored` are not compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data, zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED)
    return out.getvalue()
