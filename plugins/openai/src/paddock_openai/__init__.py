"""Any OpenAI-compatible server as a provider of chat and embeddings."""
