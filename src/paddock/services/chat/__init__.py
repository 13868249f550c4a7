"""Project chat: requests to providers, replies back, sessions, retrieval."""

from paddock.services.chat.context import Found, Retriever
from paddock.services.chat.service import ChatService
from paddock.services.chat.sessions import Sessions

__all__ = ["ChatService", "Found", "Retriever", "Sessions"]
