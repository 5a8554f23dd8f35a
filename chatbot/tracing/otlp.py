"""Encodes spans for a collector: messages of protobuf, written field by field.

Source: opentelemetry/proto/trace/v1/trace.proto. A tag is the number of a field and its type. The classes that protobuf
generates cost four to six times as much.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from chatbot.tracing import Attribute, Context, Span

#: The enumeration `SpanKind`.
_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
#: `trace_id`, `span_id`, `start_time_unix_nano` and `end_time_unix_nano`, each behind its tag.
_SPAN = struct.Struct("<2s16s2s8sBQBQ")
#: `status` with the code of an error.
_FAILED = b"\x7a\x02\x18\x02"
#: Texts from this length on are ids: each is encoded once.
_ID_LENGTH = 20


def encode_span(span: Span) -> bytes:
    """A span as a field of `ScopeSpans`."""
    trace_id, span_id, _ = span.context
    ids = bytes.fromhex(trace_id + span_id)
    encoded = _SPAN.pack(b"\x0a\x10", ids[:16], b"\x12\x08", ids[16:], 0x39, span.start, 0x41, span.end)
    encoded += _name(span.name, span.kind)
    if span.parent is not None:
        encoded += b"\x22\x08" + bytes.fromhex(span.parent.span_id)
    for key, value in span.describe().items():
        if type(value) is float or (type(value) is str and len(value) >= _ID_LENGTH):
            encoded += _encoded_attribute(key, value)
        else:
            encoded += _attribute(key, value)
    for link in span.links:
        encoded += _field(0x6A, _ids(link))
    if span.error is not None:
        encoded += _attribute("error.type", span.error) + _FAILED
    return _field(0x12, encoded)


def encode_request(resource: bytes, spans: Iterable[bytes]) -> bytes:
    """An `ExportTraceServiceRequest` with encoded spans of one resource."""
    return _field(0x0A, resource + _field(0x12, _SCOPE + b"".join(spans)))


def encode_resource(attributes: Mapping[str, Attribute], schema_url: str) -> bytes:
    """The fields of `ResourceSpans` that name the program that sends."""
    pairs = b"".join(_field(0x0A, _pair(key, value)) for key, value in attributes.items())
    return _field(0x0A, pairs) + _field(0x1A, _text(schema_url))


def _ids(context: Context) -> bytes:
    return b"\x0a\x10%b\x12\x08%b" % (bytes.fromhex(context.trace_id), bytes.fromhex(context.span_id))


@lru_cache(maxsize=64)
def _name(name: str, kind: str) -> bytes:
    return _field(0x2A, _text(name)) + bytes((0x30, _KINDS[kind]))


def _encoded_attribute(key: str, value: Attribute) -> bytes:
    """A `KeyValue` as a field of `Span`."""
    return _field(0x4A, _pair(key, value))


#: The same for values that many replies have.
_attribute = lru_cache(maxsize=512, typed=True)(_encoded_attribute)


def _pair(key: str, value: Attribute) -> bytes:
    return _key(key) + _field(0x12, _value(value))


@lru_cache(maxsize=64)
def _key(key: str) -> bytes:
    return _field(0x0A, _text(key))


def _value(value: Attribute) -> bytes:
    """An `AnyValue`."""
    if isinstance(value, str):
        return _field(0x0A, _text(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value % 2**64)
    if isinstance(value, float):
        return struct.pack("<Bd", 0x21, value)
    return _field(0x2A, b"".join(_field(0x0A, _value(each)) for each in value))


def _text(text: str) -> bytes:
    # What a model server sent may hold half of a surrogate pair.
    return text.encode(errors="replace")


def _field(tag: int, content: bytes) -> bytes:
    length = len(content)
    return b"%c%c%b" % (tag, length, content) if length < 0x80 else b"%c%b%b" % (tag, _varint(length), content)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)


#: The field `scope`.
_SCOPE = _field(0x0A, _field(0x0A, b"chatbot"))
