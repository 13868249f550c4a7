"""Programs that run in processes of their own, with the standard library alone."""
