"""The built-in implementations of the endpoint contracts."""
