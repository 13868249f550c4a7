"""Ollama: catalogue, pull, show, delete, health; chat and embeddings through its /v1."""
