"""Writes a whole GGUF model of half a megabyte that the real llama-server runs: two layers, a byte vocabulary, random weights.

It says nothing sensible, thousands of tokens a second. For tests with the real program.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

WIDTH, HIDDEN, HEADS, LAYERS, CONTEXT = 64, 128, 4, 2, 2048
ALIGNMENT = 32
TEMPLATE = "{% for m in messages %}<|{{m.role}}|>{{m.content}}\n{% endfor %}<|assistant|>"

_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def write_tiny_model(path: Path, *, seed: int = 1) -> Path:
    """Write it; the same seed gives the same bytes. Returns the path."""
    entries = metadata()
    tensors = [(name, shape, weights(name, shape, seed)) for name, shape in shapes(len(vocabulary())).items()]
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(entries)), *entries]
    offset = 0
    for name, shape, data in tensors:
        head.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset))
        offset += padded(len(data))
    body = b"".join(head)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        body.ljust(padded(len(body)), b"\0") + b"".join(data.ljust(padded(len(data)), b"\0") for _, _, data in tensors)
    )
    return path


def padded(size: int) -> int:
    """The next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def vocabulary() -> list[tuple[str, int]]:
    """Tokens and their types: the three special ones, every byte, and the printable characters of ASCII."""
    special = [("<unk>", _UNKNOWN), ("<s>", _CONTROL), ("</s>", _CONTROL)]
    every = [(f"<0x{byte:02X}>", _BYTE) for byte in range(256)]
    return [*special, *every, *((chr(code).replace(" ", "▁"), _NORMAL) for code in range(32, 127))]


def metadata() -> list[bytes]:
    """The entries of the header."""
    tokens = vocabulary()
    numbers = {
        "context_length": CONTEXT, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS, "attention.head_count_kv": HEADS, "rope.dimension_count": WIDTH // HEADS,
        "vocab_size": len(tokens),
    }  # fmt: skip
    special = {"bos": 1, "eos": 2, "unknown": 0}
    return [
        text("general.architecture") + struct.pack("<I", _STRING) + text("llama"),
        *(text(f"llama.{name}") + struct.pack("<II", _UINT32, value) for name, value in numbers.items()),
        text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", _FLOAT32, 1e-5),
        text("tokenizer.ggml.model") + struct.pack("<I", _STRING) + text("llama"),
        text("tokenizer.ggml.tokens")
        + struct.pack("<IIQ", _ARRAY, _STRING, len(tokens))
        + b"".join(text(word) for word, _ in tokens),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ", _ARRAY, _FLOAT32, len(tokens)) + bytes(4 * len(tokens)),
        text("tokenizer.ggml.token_type")
        + struct.pack("<IIQ", _ARRAY, _INT32, len(tokens))
        + array("i", (kind for _, kind in tokens)).tobytes(),
        *(text(f"tokenizer.ggml.{name}_token_id") + struct.pack("<II", _UINT32, at) for name, at in special.items()),
        text("tokenizer.chat_template") + struct.pack("<I", _STRING) + text(TEMPLATE),
    ]


def shapes(words: int) -> dict[str, tuple[int, ...]]:
    """The tensors by name, the fastest dimension first."""
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, words)}
    for layer in range(LAYERS):
        parts = {
            "attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH),
            "attn_output": (WIDTH, WIDTH), "ffn_norm": (WIDTH,), "ffn_gate": (WIDTH, HIDDEN), "ffn_up": (WIDTH, HIDDEN),
            "ffn_down": (HIDDEN, WIDTH),
        }  # fmt: skip
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
    return {**found, "output_norm.weight": (WIDTH,), "output.weight": (WIDTH, words)}


def weights(name: str, shape: Sequence[int], seed: int) -> bytes:
    """32-bit floats: ones for norms, else small random ones."""
    if len(shape) == 1:
        return array("f", [1.0] * shape[0]).tobytes()
    chance = random.Random(f"{seed} {name}")  # noqa: S311  weights, not a secret
    return array("f", (chance.gauss(0, 0.05) for _ in range(shape[0] * shape[1]))).tobytes()


def text(value: str) -> bytes:
    """A text as GGUF has it: its length, then its bytes."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data
