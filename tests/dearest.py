#!/usr/bin/env python3
"""The latency of one client's small gets while another pipelines expensive requests for ever.

    dearest.py SECONDS [ROW..] -- NAME=PORT..

Each server on 127.0.0.1 in turns, three times a row: p50 and p99 in milliseconds, how many gets
there were, and how many bytes of answers per second the other client read.
"""

import multiprocessing
import socket
import sys
import threading
import time

MB = 1_000_000
MANY = 200

ROWS = {
    "nothing": b"",
    "get 100 B": b"get s\r\n" * 200,
    "get 1 MB": b"get b\r\n" * 16,
    "gat 1 MB": b"gat 0 b\r\n" * 16,
    "touch 1 MB": b"touch b 0\r\n" * 200,
    "append to 1 MB": b"append b 0 0 0\r\n\r\n" * 50,
    "prepend to 1 MB": b"prepend b 0 0 0\r\n\r\n" * 50,
    "incr of 500 KB": b"incr n 1\r\n" * 100,
    "append to many": b"".join(b"append b%d 0 0 0\r\n\r\n" % i for i in range(MANY)),
    "incr of many": b"".join(b"incr n%d 1\r\n" % i for i in range(MANY)),
    "set 1 MB": b"set c 0 0 %d\r\n" % MB + b"v" * MB + b"\r\n",
    "set 100 KB": (b"set d 0 0 %d\r\n" % 100_000 + b"v" * 100_000 + b"\r\n") * 10,
    "stats": b"stats\r\n" * 50,
}


def connect(port):
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def ask(stream, request, end):
    stream.sendall(request)
    answer = b""
    while not answer.endswith(end):
        piece = stream.recv(1 << 20)
        assert piece, "the server closed the connection"
        answer += piece
    return answer


def store(stream, key, value):
    request = b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)
    assert ask(stream, request, b"\r\n") == b"STORED\r\n"


def prepare(stream, row):
    long, number = b"v" * MB, b" " * 499_999 + b"x"
    for key, value in ((b"s", b"v" * 100), (b"victim", b"v" * 100), (b"b", long), (b"n", number)):
        store(stream, key, value)
    for i in range(MANY):
        if row == "append to many":
            store(stream, b"b%d" % i, long)
        elif row == "incr of many":
            store(stream, b"n%d" % i, number)


def pipeline(port, requests, read_bytes):
    stream = connect(port)

    def drain():
        piece = bytearray(1 << 20)
        while n := stream.recv_into(piece):
            read_bytes.value += n

    threading.Thread(target=drain, daemon=True).start()
    while True:
        stream.sendall(requests)


def measure(port, row, seconds):
    stream = connect(port)
    prepare(stream, row)
    read_bytes = multiprocessing.Value("q", 0, lock=False)
    other = None
    if ROWS[row]:
        other = multiprocessing.Process(target=pipeline, args=(port, ROWS[row], read_bytes))
        other.start()
        time.sleep(0.3)
    times, before = [], read_bytes.value
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        ask(stream, b"get victim\r\n", b"END\r\n")
        times.append((time.perf_counter() - start) * 1000)
    rate = (read_bytes.value - before) / seconds
    if other:
        other.terminate()
        other.join()
    times.sort()
    p50, p99 = (times[int(len(times) * q)] for q in (0.5, 0.99))
    return f"p50 {p50:.2f} p99 {p99:.2f} ({len(times)}, {rate:.0f} B/s)"


def main():
    words = sys.argv[1:]
    if "--" not in words or not words[0].replace(".", "").isdigit():
        sys.exit(__doc__)
    cut = words.index("--")
    for row in words[1:cut] or ROWS:
        for _ in range(3):
            servers = (word.split("=") for word in words[cut + 1 :])
            shown = (f"{name} {measure(int(port), row, float(words[0]))}" for name, port in servers)
            print(f"{row:16}", "   ".join(shown), flush=True)


if __name__ == "__main__":
    main()
