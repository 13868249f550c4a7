"""Who may do what: the one place that reads credentials from a request and decides, from memory and before a body is read."""

from paddock.access.binding import check_bind, is_loopback
from paddock.access.credentials import credential, first_message_token, offered_token
from paddock.access.gatekeeper import Gatekeeper
from paddock.access.ring import KeyRing, StoredKey, digest_of
from paddock.access.tokens import Issued, Tokens

__all__ = [
    "Gatekeeper",
    "Issued",
    "KeyRing",
    "StoredKey",
    "Tokens",
    "check_bind",
    "credential",
    "digest_of",
    "first_message_token",
    "is_loopback",
    "offered_token",
]
