"""The wire kinds: how bytes come in (body, multipart) and go out (whole, streamed, a file), over plain ASGI."""

from paddock.streams.asgi import Message, Receive, Scope, Send
from paddock.streams.bodies import BodyWatch, body_pieces, read_body
from paddock.streams.files import file_reply
from paddock.streams.forms import MAX_PARTS, MultipartUpload, Part
from paddock.streams.holding import Hold, Streaming
from paddock.streams.leaving import ClientGone, settle, wait_gone
from paddock.streams.sending import Streamed, Whole, header_list, start_stream
from paddock.streams.working import while_client_stays

__all__ = [
    "MAX_PARTS", "BodyWatch", "ClientGone", "Hold", "Message", "MultipartUpload", "Part", "Receive", "Scope", "Send",
    "Streamed", "Streaming", "Whole", "body_pieces", "file_reply", "header_list", "read_body", "settle", "start_stream",
    "wait_gone", "while_client_stays",
]  # fmt: skip
