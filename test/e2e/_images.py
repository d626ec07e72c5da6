# SPDX-License-Identifier: GPL-2.0-only
"""Change images as another tool would have written them: entries as lists of (field number, wire type, value)."""
import os
import struct

CHECKSUM_SET = 2000  # field of the inventory
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def _varint(data, pos):
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            return value, pos
        shift += 7


def _put_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data):
    """A protobuf message as a list of [number, wire type, value]; nested messages stay bytes."""
    fields, pos = [], 0
    while pos < len(data):
        tag, pos = _varint(data, pos)
        kind = tag & 7
        if kind == VARINT:
            value, pos = _varint(data, pos)
        elif kind == BYTES:
            size, pos = _varint(data, pos)
            value, pos = data[pos:pos + size], pos + size
        else:
            size = 8 if kind == FIXED64 else 4
            value, pos = data[pos:pos + size], pos + size
        fields.append([tag >> 3, kind, value])
    return fields


def encode(fields):
    out = bytearray()
    for number, kind, value in fields:
        out += _put_varint(number << 3 | kind)
        if kind == VARINT:
            out += _put_varint(value)
        elif kind == BYTES:
            out += _put_varint(len(value)) + value
        else:
            out += value
    return bytes(out)


def get(fields, number, default=None):
    return next((value for n, _, value in fields if n == number), default)


def put(fields, number, value):
    for field in fields:
        if field[0] == number:
            field[2] = value
            return
    fields.append([number, BYTES if isinstance(value, bytes) else VARINT, value])


def load(path, magics=2):
    """(header, entries) of a framed image without raw data between its entries."""
    with open(path, 'rb') as f:
        data = f.read()
    pos, entries = 4 * magics, []
    while pos < len(data):
        size = struct.unpack_from('<I', data, pos)[0]
        entries.append(decode(data[pos + 4:pos + 4 + size]))
        pos += 4 + size
    return data[:4 * magics], entries


def store(path, header, entries):
    with open(path, 'wb') as f:
        f.write(header)
        for entry in entries:
            data = encode(entry)
            f.write(struct.pack('<I', len(data)) + data)


def make_foreign(directory):
    """Take the checksums away: what is left is a set as other tools write it, and may be changed."""
    path = os.path.join(directory, 'inventory.img')
    header, entries = load(path, magics=1)
    store(path, header, [[f for f in entry if f[0] != CHECKSUM_SET] for entry in entries])
    os.unlink(os.path.join(directory, 'checksums.img'))
