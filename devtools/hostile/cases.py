"""The kinds of hostile requests and frames, each made at random from a seed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable

from devtools.hostile.attack import BINARY, CLOSE, PING, PONG, TEXT, Attack, frame, request


def random_bytes(attack: Attack, dice: random.Random) -> None:
    attack.exchange(dice.randbytes(dice.randint(1, 3000)) + b"\r\n\r\n", patience=0.05)


def torn_request(attack: Attack, dice: random.Random) -> None:
    data = bytearray(request("/token", b'{"name": "Ada"}', Content_Type="application/json"))
    for _ in range(dice.randint(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    attack.exchange(bytes(data), patience=0.05, reset=dice.random() < 0.3)


def torn_handshake(attack: Attack, dice: random.Random) -> None:
    data = bytearray(attack.handshake())
    for _ in range(dice.randint(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    attack.exchange(bytes(data[: dice.randint(1, len(data))] if dice.random() < 0.3 else data), patience=0.05)


def odd_handshake(attack: Attack, dice: random.Random) -> None:
    odd: list[dict[str, str]] = [
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "x" * 3000},
        {"Upgrade": "h2c"},
        {"Origin": "null"},
        {"Origin": "http://" + "e" * 2000},
        {"Origin": "http://[::"},
        {"Host": "[::"},
        {"Host": "a b"},
        {"Content_Length": "5"},
        {"Transfer_Encoding": "chunked"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; " * 50},
        {"Sec_WebSocket_Protocol": "\x01"},
        {"Authorization": "Bearer " + "\xff" * 100},
        {"X_Forwarded_For": "'; DROP TABLE", "X_Forwarded_Proto": "javascript", "X_Forwarded_Host": "evil/.."},
    ]
    attack.exchange(attack.handshake(**dice.choice(odd)), patience=0.05)


def odd_name(attack: Attack, dice: random.Random) -> None:
    json_type = "application/json"
    bodies: list[tuple[bytes, str]] = [
        (b'{"name": "' + b"x" * 10_000 + b'"}', json_type),
        (b"[" * 15_000, json_type),
        (b'{"name": ' * 1500 + b"1" + b"}" * 1500, json_type),
        (json.dumps({"name": chr(dice.randrange(32))}).encode(), json_type),
        (b'{"name": "\\u0000"}', json_type),
        (b'{"name": "\\udfff"}', json_type),
        (b'{"name": "' + dice.randbytes(20) + b'"}', json_type),
        (b'{"name": 1e999}', json_type),
        (b'{"name": ' + b"9" * 5000 + b"}", json_type),
        (b'{"name": {"$gt": ""}}', json_type),
        (b"name=" + dice.randbytes(50), "application/x-www-form-urlencoded"),
        (b"name=%ff%00%" * 100, "application/x-www-form-urlencoded"),
        (b"--x\r\n" * 2000, "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=name\r\n\r\n", "multipart/form-data; boundary=" + "x" * 70),
        (dice.randbytes(2000), dice.choice(["", "text/plain; charset=utf-99", "application/json; charset=\xfe"])),
        (b"x" * 200_000, json_type),
    ]
    body, kind = dice.choice(bodies)
    attack.exchange(request("/token", body, Content_Type=kind))


def odd_address(attack: Attack, dice: random.Random) -> None:
    paths = [
        "/" + "a" * 6000,
        "/refresh_token?token=" + "%ff" * 500,
        "/refresh_token?token=" + "t" * 3000,
        "/refresh_token?" + "&".join(f"a{n}=b" for n in range(800)),
        "/static/../../etc/passwd",
        "/static/%2e%2e/%2e%2e/wsgi.py",
        "/\x00",
        "//evil.example/",
        "/chat/../token",
        "http://[::/",
        "*",
    ]
    method = dice.choice(["GET", "PUT", "TRACE", "CONNECT", "OPTIONS", "X" * 50, "get"])
    headers = "".join(f"X-{n}: {n}\r\n" for n in range(dice.choice([0, 0, 150]))) + "X: " + "y" * dice.choice([0, 9000])
    attack.exchange(
        f"{method} {dice.choice(paths)} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode(), patience=0.1
    )


def odd_body(attack: Attack, dice: random.Random) -> None:
    chunked = "POST /token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    bodies = [
        b"zz\r\nname=Ada\r\n0\r\n\r\n",
        b"5;" + b"x" * 5000 + b"\r\nname=\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"ffffffffffffffff\r\nname",
        b"5\r\nname=XX0\r\n\r\n",
    ]
    attack.exchange(chunked.encode() + dice.choice(bodies), patience=0.05, reset=dice.random() < 0.3)


def bad_frame(attack: Attack, dice: random.Random) -> None:
    frames = [
        frame(TEXT, b"hello", reserved=dice.randint(1, 7)),
        frame(dice.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), b"x"),
        frame(TEXT, b"not masked", masked=False),
        b"\x81\xff" + struct.pack("!Q", 2**63 + 5) + b"\0\0\0\0",
        b"\x81\xff" + struct.pack("!Q", 2**40) + b"\0\0\0\0" + b"x" * 1000,
        frame(TEXT, b"x" * 70_000),
        frame(PING, b"in pieces", fin=False),
        frame(PING, b"x" * 126),
        frame(CLOSE, b"\x03"),
        frame(CLOSE, struct.pack("!H", dice.choice([0, 999, 1004, 1005, 1006, 1015, 5000, 65535]))),
        frame(CLOSE, struct.pack("!H", 1000) + b"\xff\xfe"),
        frame(0, b"continues nothing"),
        frame(TEXT, b"begun", fin=False) + frame(TEXT, b"begun again"),
        frame(TEXT, b"\xff\xfe\xfd"),
        frame(TEXT, "\U0001f600".encode()[:3]),
        frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 200,
        frame(PING, b"x" * 100) * 200,
        frame(PONG, b"") * 300,
        dice.randbytes(dice.randint(1, 2000)),
        b"\x81\xfe\xff",
    ]
    attack.websocket(dice.choice(frames), reset=dice.random() < 0.3)


def odd_text(attack: Attack, dice: random.Random) -> None:
    """Several frames on one socket, which count as one case."""
    texts = [
        '{"a":' * 8000 + "1" + "}" * 8000,
        "[" * 30_000,
        json.dumps({"type": "message", "msg": "x", "id": dice.randbytes(40).hex()}),
        json.dumps({"type": "message", "msg": {"a": []}}),
        json.dumps({"type": ["message"], "msg": "x"}),
        json.dumps({"type": "retry", "id": "x" * 60_000}),
        json.dumps({"type": "\x00", "msg": "\x1b[2J"}),
        '{"type": "message", "msg": "\\ud800\\udbff"}',
        '{"type": "message", "type": "stop", "id": "\\u0000"}',
        '{"type": "message", "msg": "x", "id": "__proto__", "__proto__": {"a": 1}}',
        '{"type": "message", "msg": ' + "9" * 5000 + "}",
        '{"type": NaN}',
        "\u202e\u0000\u0007\ufeff",
        " " * 60_000,
        "",
    ]
    frames = b"".join(frame(BINARY if dice.random() < 0.1 else TEXT, dice.choice(texts).encode()) for _ in range(5))
    attack.websocket(frames, reset=dice.random() < 0.3)


CASES: tuple[Callable[[Attack, random.Random], None], ...] = (
    random_bytes,
    torn_request,
    torn_handshake,
    odd_handshake,
    odd_name,
    odd_address,
    odd_body,
    bad_frame,
    odd_text,
)
