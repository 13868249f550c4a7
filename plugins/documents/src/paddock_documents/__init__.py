"""PDF, Office, e-mail and more to text, pages, tables and metadata."""
