"""Pytest fixtures of the kit, loaded through the pytest11 entry point."""
