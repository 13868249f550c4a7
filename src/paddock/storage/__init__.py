"""Durable state: the SQLite file, whole-or-absent files, and the path helper."""

from paddock.storage.database import Connection, Database, DatabaseDamaged, Migration
from paddock.storage.files import Blobs, Stored, replace_file
from paddock.storage.paths import check_name, inside, is_hash

__all__ = [
    "Blobs",
    "Connection",
    "Database",
    "DatabaseDamaged",
    "Migration",
    "Stored",
    "check_name",
    "inside",
    "is_hash",
    "replace_file",
]
