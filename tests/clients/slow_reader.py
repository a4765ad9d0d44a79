"""A client that reads slowly from a server that is told to stop: it must get all its
replies, and then a close.

    slow_reader.py HOST PORT PID
"""

import os
import signal
import socket
import sys
import time

VALUE_BYTES = 800_000

host, port, pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = socket.socket()
# A small buffer, so that most of the answer is still queued in the server.
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
client.settimeout(20)
client.connect((host, port))
client.sendall(b"set slow 0 0 %d\r\n%s\r\n" % (VALUE_BYTES, b"v" * VALUE_BYTES))
assert client.recv(100) == b"STORED\r\n"
client.sendall(b"get slow\r\n")
answer = client.recv(1000)
os.kill(pid, signal.SIGTERM)
while piece := client.recv(8 * 1024):
    answer += piece
    time.sleep(0.01)
expected = b"VALUE slow 0 %d\r\n%s\r\nEND\r\n" % (VALUE_BYTES, b"v" * VALUE_BYTES)
assert answer == expected, f"{len(answer)} bytes of {len(expected)}"
