"""The default vector store: sqlite-vec and FTS5 in one file."""
