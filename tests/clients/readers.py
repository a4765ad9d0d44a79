"""Reads one value repeatedly on 20 connections: readers.py HOST SECONDS WORST_SECONDS.

Nothing may fail, and no round of all connections may take longer than WORST_SECONDS."""

import socket
import sys
import time

host, seconds, worst_allowed = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
connections = [socket.create_connection((host, 11211), timeout=30) for _ in range(20)]
connections[0].sendall(b"set read 0 0 1400\r\n" + b"x" * 1400 + b"\r\n")
assert connections[0].recv(100) == b"STORED\r\n"
end = time.monotonic() + seconds
rounds, worst = 0, 0.0
while time.monotonic() < end:
    began = time.monotonic()
    for connection in connections:
        connection.sendall(b"get read\r\n")
    for connection in connections:
        answer = b""
        while not answer.endswith(b"END\r\n"):
            piece = connection.recv(65536)
            assert piece, "closed"
            answer += piece
        assert len(answer) == len("VALUE read 0 1400\r\n") + 1400 + len("\r\nEND\r\n")
    rounds += 1
    worst = max(worst, time.monotonic() - began)
print(f"{rounds} rounds, the longest {worst:.2f} s")
assert rounds > 10 and worst < worst_allowed
