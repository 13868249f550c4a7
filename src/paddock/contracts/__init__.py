"""The contracts: endpoints as hooks, and what plugins can provide."""
