#!/usr/bin/env python3
"""How many items servers keep in their memory, and how often a client finds what it asks for.

    capacity.py items VALUE_BYTES SET_BYTES -- NAME=PORT:PID..
    capacity.py mix SET_BYTES -- NAME=PORT:PID..
    capacity.py hits ZIPF ONE_HIT OBJECTS REQUESTS -- NAME=PORT:PID..

items: sets keys of 20 bytes, SET_BYTES of keys and values in all, then asks for each once and
counts what is there. mix: the same with keys and values as long as in Facebook's pool ETC (Atikoglu
et al., SIGMETRICS 2012: key lengths GEV(30.8, 8.2, 0.0787), value lengths GPD(15, 214.48, 0.348))
and times to live from ten minutes to 14 days (log-uniform).
hits: asks for OBJECTS keys of 20 bytes with the Zipf exponent ZIPF, REQUESTS times; a share of
ONE_HIT of the requests is for keys that are asked for once only. What is missing is set, with 100
bytes. The first third of the requests is not counted.

Each server is on 127.0.0.1 and starts empty. Shows resident memory of the process PID as well.
"""

import itertools
import math
import random
import socket
import sys

SET_BATCH = 500
GET_BATCH = 80
TRACE_BATCH = 20
SHAPES = 4093


class Server:
    def __init__(self, word):
        self.name, _, rest = word.partition("=")
        port, _, self.pid = rest.partition(":")
        self.stream = socket.create_connection(("127.0.0.1", int(port)))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answer(self, end):
        answer = bytearray()
        while not answer.endswith(end):
            piece = self.stream.recv(1 << 20)
            assert piece, "the server closed the connection"
            answer += piece
        return bytes(answer)

    def send_sets(self, items):
        self.stream.sendall(
            b"".join(
                b"set %s 0 %d %d noreply\r\n%s\r\n" % (key, ttl, len(value), value)
                for key, ttl, value in items
            )
        )

    def found(self, keys):
        """The keys that have an item."""
        self.stream.sendall(b"get " + b" ".join(keys) + b"\r\n")
        words = self.answer(b"END\r\n").split(b"VALUE ")[1:]
        return [word[: word.index(b" ")] for word in words]

    def sync(self):
        self.stream.sendall(b"version\r\n")
        assert self.answer(b"\r\n").startswith(b"VERSION ")

    def resident_mib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


def batches(iterable, n):
    iterator = iter(iterable)
    while batch := list(itertools.islice(iterator, n)):
        yield batch


def etc_shapes():
    """Lengths of key and value, and time to live, of which each item has one."""
    rng = random.Random(1)
    shapes = []
    for _ in range(SHAPES):
        u, v = rng.random(), rng.random()
        key = 30.7984 + 8.20449 * ((-math.log(max(u, 1e-12))) ** -0.078688 - 1) / 0.078688
        value = 15 + 214.476 * ((1 - v) ** -0.348238 - 1) / 0.348238
        ttl = math.exp(rng.uniform(math.log(600), math.log(14 * 86400)))
        shapes.append((min(250, max(12, int(key))), min(1_000_000, int(value)), int(ttl)))
    return shapes


def count_items(server, items, keys, set_bytes):
    total = 0
    for batch in batches(items, SET_BATCH):
        server.send_sets(batch)
        total += len(batch)
    server.sync()
    kept = sum(len(server.found(batch)) for batch in batches(keys, GET_BATCH))
    stats = f"{kept:,} of {total:,} items ({set_bytes:,} bytes), {server.resident_mib():.0f} MiB"
    print(f"{server.name:12} {stats}", flush=True)


def plain_items(value_bytes, set_bytes):
    value = b"v" * value_bytes
    count = set_bytes // (20 + value_bytes)
    keys = lambda: (b"%020d" % i for i in range(count))
    return ((key, 0, value) for key in keys()), keys()


def mixed_items(set_bytes):
    shapes = etc_shapes()
    round_bytes = sum(key + value for key, value, _ in shapes)
    count = SHAPES * (set_bytes // round_bytes)
    longest = b"v" * max(value for _, value, _ in shapes)

    def key(i):
        return b"%0*d" % (shapes[i % SHAPES][0], i)

    def item(i):
        _, value_bytes, ttl = shapes[i % SHAPES]
        return key(i), ttl, longest[:value_bytes]

    return map(item, range(count)), map(key, range(count))


def trace(zipf, one_hit, objects, requests):
    rng = random.Random(7)
    weights = list(itertools.accumulate((i + 1) ** -zipf for i in range(objects)))
    once = itertools.count(objects)
    for _ in range(requests // 1000):
        for i in rng.choices(range(objects), cum_weights=weights, k=1000):
            yield b"%020d" % (next(once) if rng.random() < one_hit else i)


def hits_per_batch(server, requests):
    """After each batch: requests so far, and its hits."""
    value, asked = b"v" * 100, 0
    for batch in batches(requests, TRACE_BATCH):
        found = set(server.found(list(dict.fromkeys(batch))))
        missing = [key for key in dict.fromkeys(batch) if key not in found]
        server.send_sets((key, 0, value) for key in missing)
        asked += len(batch)
        yield asked, sum(key in found for key in batch)


def count_hits(server, arguments):
    zipf, one_hit, objects, requests = arguments
    asked, hits, before = 0, 0, 0
    for total, n in hits_per_batch(server, trace(zipf, one_hit, objects, requests)):
        if total > requests // 3:
            asked += total - before
            hits += n
        before = total
    ratio = hits / asked
    print(f"{server.name:12} hit ratio {ratio:.4f}, {server.resident_mib():.0f} MiB", flush=True)


def main():
    words = sys.argv[1:]
    if "--" not in words:
        sys.exit(__doc__)
    cut = words.index("--")
    mode, *numbers = words[:cut]
    servers = map(Server, words[cut + 1 :])
    for server in servers:
        if mode == "items" and len(numbers) == 2:
            value_bytes, set_bytes = map(int, numbers)
            count_items(server, *plain_items(value_bytes, set_bytes), set_bytes)
        elif mode == "mix" and len(numbers) == 1:
            set_bytes = int(numbers[0])
            count_items(server, *mixed_items(set_bytes), set_bytes)
        elif mode == "hits" and len(numbers) == 4:
            zipf, one_hit, objects, requests = numbers
            count_hits(server, (float(zipf), float(one_hit), int(objects), int(requests)))
        else:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
