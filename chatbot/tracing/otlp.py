"""Encodes spans for a collector: messages of protobuf, written field by field.

Source: opentelemetry/proto/trace/v1/trace.proto. A tag is the number of a field and its type. The classes that protobuf
generates cost ten times as much. What many spans share is encoded once: their names, and the values of attributes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from chatbot.tracing import Attribute, Ended, any_span_id

#: The enumeration `SpanKind`.
_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
#: `trace_id`, `span_id`, `start_time_unix_nano` and `end_time_unix_nano`, each behind its tag, and `parent_span_id`.
_ROOT, _CHILD = struct.Struct("<2s16s2s8sBQBQ"), struct.Struct("<2s16s2s8sBQBQ2s8s")
#: `status` with the code of an error.
_FAILED = b"\x7a\x02\x18\x02"


def encode_span(span: Ended) -> bytes:
    """A span as a field of `ScopeSpans`."""
    name, kind, trace_id, span_id, parent_id, start, end, attributes, error, links = span
    ids = bytes.fromhex(trace_id + (span_id or any_span_id()) + parent_id)
    times = (0x39, start, 0x41, end)
    if parent_id:
        own = _CHILD.pack(b"\x0a\x10", ids[:16], b"\x12\x08", ids[16:24], *times, b"\x22\x08", ids[24:])
    else:
        own = _ROOT.pack(b"\x0a\x10", ids[:16], b"\x12\x08", ids[16:], *times)
    own += _name(name, kind) + attributes
    for link in links:
        linked = bytes.fromhex(link)
        own += _field(0x6A, b"\x0a\x10%b\x12\x08%b" % (linked[:16], linked[16:]))
    if error is not None:
        own += attribute("error.type", error) + _FAILED
    return _field(0x12, own)


def encode_request(resource: bytes, spans: Iterable[bytes]) -> bytes:
    """An `ExportTraceServiceRequest` with encoded spans of one resource."""
    return _field(0x0A, resource + _field(0x12, _SCOPE + b"".join(spans)))


def encode_resource(attributes: Mapping[str, Attribute], schema_url: str) -> bytes:
    """The fields of `ResourceSpans` that name the program that sends."""
    pairs = b"".join(_field(0x0A, _pair(key, value)) for key, value in attributes.items())
    return _field(0x0A, pairs) + _field(0x1A, _text(schema_url))


@lru_cache(maxsize=512, typed=True)
def attribute(key: str, value: Attribute) -> bytes:
    """An attribute of a span with a value that many spans have."""
    return _field(0x4A, _pair(key, value))


def text_attribute(key: str) -> Callable[[str], bytes]:
    """Encodes an attribute whose values differ, such as ids."""
    name = _field(0x0A, _text(key))
    #: Up to here all lengths take one byte.
    most = 0x7F - len(name) - 4

    def encode(value: str) -> bytes:
        text = _text(value)
        length = len(text)
        if length > most:
            return _field(0x4A, name + _field(0x12, _field(0x0A, text)))
        return b"\x4a%c%b\x12%c\x0a%c%b" % (len(name) + length + 4, name, length + 2, length, text)

    return encode


def float_attribute(key: str) -> Callable[[float], bytes]:
    """Encodes an attribute whose values are times or shares."""
    name = _field(0x0A, _text(key))
    head = b"\x4a%c%b\x12\x09\x21" % (len(name) + 11, name)
    return lambda value: head + _DOUBLE.pack(value)


@lru_cache(maxsize=64)
def _name(name: str, kind: str) -> bytes:
    return _field(0x2A, _text(name)) + bytes((0x30, _KINDS[kind]))


def _pair(key: str, value: Attribute) -> bytes:
    return _field(0x0A, _text(key)) + _field(0x12, _value(value))


def _value(value: Attribute) -> bytes:
    """An `AnyValue`."""
    if isinstance(value, str):
        return _field(0x0A, _text(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value % 2**64)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    return _field(0x2A, b"".join(_field(0x0A, _value(each)) for each in value))


def _text(text: str) -> bytes:
    # What a model server sent may hold half of a surrogate pair.
    return text.encode(errors="replace")


def _field(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return b"%c%c%b" % (tag, length, content)
    if length < 0x4000:
        return b"%c%c%c%b" % (tag, length & 0x7F | 0x80, length >> 7, content)
    return b"%c%b%b" % (tag, _varint(length), content)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)


_DOUBLE = struct.Struct("<d")
#: The field `scope`.
_SCOPE = _field(0x0A, _field(0x0A, b"chatbot"))
