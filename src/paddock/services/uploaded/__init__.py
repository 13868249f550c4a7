"""Files that stand for themselves, under /v1/files."""

from paddock.services.uploaded.service import UploadedFiles

__all__ = ["UploadedFiles"]
