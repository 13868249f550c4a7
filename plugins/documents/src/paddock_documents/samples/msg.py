"""Outlook messages: a compound file with one stream for each property."""

from __future__ import annotations

import struct
from collections.abc import Mapping

SECTOR, SMALL, FREE, END, FAT = 512, 64, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
CUTOFF = 4096  # streams below this size live in the stream of small sectors

Tree = Mapping[str, "bytes | Tree"]


class _Entry:
    """A line of the directory."""

    def __init__(self, name: str, kind: int, data: bytes = b"") -> None:
        self.name, self.kind, self.data = name, kind, data
        self.left = self.right = self.child = FREE
        self.start, self.size = END, len(data)

    def packed(self) -> bytes:
        """Its 128 bytes."""
        name = self.name.encode("utf-16-le") + b"\0\0"
        head = name.ljust(64, b"\0") + struct.pack("<HBB", len(name), self.kind, 1)
        links = struct.pack("<III", self.left, self.right, self.child)
        return head + links + bytes(16) + bytes(4) + bytes(16) + struct.pack("<IQ", self.start, self.size)


def compound(tree: Tree) -> bytes:
    """A compound file of storages (mappings) and streams (bytes)."""
    entries = [_Entry("Root Entry", 5)]
    entries[0].child = _add(entries, tree)
    small, small_chain = bytearray(), list[int]()
    for entry in entries[1:]:
        if entry.kind == 2 and 0 < entry.size < CUTOFF:
            entry.start = len(small) // SMALL
            count = -(-entry.size // SMALL)
            small_chain += [*range(entry.start + 1, entry.start + count), END]
            small += entry.data.ljust(count * SMALL, b"\0")
    sectors, chain = list[bytes](), list[int]()

    def place(data: bytes) -> int:
        if not data:
            return END
        start, count = len(sectors), -(-len(data) // SECTOR)
        sectors.extend(data[at : at + SECTOR].ljust(SECTOR, b"\0") for at in range(0, len(data), SECTOR))
        chain.extend([*range(start + 1, start + count), END])
        return start

    for entry in entries[1:]:
        if entry.kind == 2 and entry.size >= CUTOFF:
            entry.start = place(entry.data)
    entries[0].start, entries[0].size = place(bytes(small)), len(small)
    links = place(struct.pack(f"<{len(small_chain)}I", *small_chain)) if small_chain else END
    directory = place(b"".join(entry.packed() for entry in entries))
    return _file(sectors, chain, directory, links, -(-len(small_chain) * 4 // SECTOR))


def _add(entries: list[_Entry], tree: Tree) -> int:
    """Append a storage's entries as a balanced tree in the order that readers search; returns its root."""
    names = sorted(tree, key=lambda name: (len(name), name.upper()))

    def half(low: int, high: int) -> int:
        if low >= high:
            return FREE
        middle = (low + high) // 2
        value = tree[names[middle]]
        entry = _Entry(names[middle], 2, value) if isinstance(value, bytes) else _Entry(names[middle], 1)
        entries.append(entry)
        number = len(entries) - 1
        if not isinstance(value, bytes):
            entry.child = _add(entries, value)
        entry.left, entry.right = half(low, middle), half(middle + 1, high)
        return number

    return half(0, len(names))


def _file(sectors: list[bytes], chain: list[int], directory: int, links: int, link_count: int) -> bytes:
    count = 1
    while (len(sectors) + count) * 4 > count * SECTOR:
        count += 1
    first = len(sectors)
    chain = chain + [FAT] * count
    table = struct.pack(f"<{len(chain)}I", *chain).ljust(count * SECTOR, b"\xff")
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, count, directory, 0, CUTOFF, links, link_count, END, 0)
    places = [first + at if at < count else FREE for at in range(109)]
    return header + struct.pack("<109I", *places) + b"".join(sectors) + table


def msg(
    body: str,
    *,
    subject: str = "A subject",
    attachments: Mapping[str, bytes] | None = None,
    codec: str = "",
) -> bytes:
    """A message. With `codec` its texts are bytes of that encoding, which the message does not name."""
    kind = "001E" if codec else "001F"

    def texts(values: Mapping[str, str]) -> dict[str, bytes]:
        return {f"__substg1.0_{tag}{kind}": value.encode(codec or "utf-16-le") for tag, value in values.items()}

    tree: dict[str, bytes | Tree] = {
        "__properties_version1.0": bytes(32),
        **texts(
            {"001A": "IPM.Note", "0037": subject, "1000": body, "0C1A": "Ann", "0C1F": "ann@example.org", "0E04": "Bob"}
        ),
        "__nameid_version1.0": {"__substg1.0_00020102": b"", "__substg1.0_00030102": b"", "__substg1.0_00040102": b""},
    }
    for number, (name, data) in enumerate((attachments or {}).items()):
        tree[f"__attach_version1.0_#{number:08X}"] = {
            "__properties_version1.0": bytes(8),
            "__substg1.0_37010102": data,
            **texts({"3707": name, "3704": name, "370E": "text/plain"}),
        }
    return compound(tree)
