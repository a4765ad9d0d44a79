"""Raw frames at the client's end of a wire: frames.py announced | tagged.

announced: waits for an announcement of 10.77.0.1 (RFC 5227). tagged: requests 10.77.0.1 in a frame
with the tag of VLAN 0, and expects an answer without one."""

import socket
import sys
import time

IFACE = "client0"
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((IFACE, 0))
mac = wire.getsockname()[4]
server, client = socket.inet_aton("10.77.0.1"), socket.inet_aton("10.77.0.2")
ARP = bytes([8, 6, 0, 1, 8, 0, 6, 4, 0])


def wait_for(wanted):
    """The first matching frame; fails after ten seconds."""
    end = time.monotonic() + 10
    while True:
        wire.settimeout(end - time.monotonic())
        try:
            frame, (_, _, kind, _, _) = wire.recvfrom(2000)
        except OSError as error:  # The link is down for a moment.
            if isinstance(error, TimeoutError):
                raise
            continue
        if kind != socket.PACKET_OUTGOING and wanted(frame):
            return frame


if sys.argv[1] == "announced":
    print("listening", flush=True)
    wait_for(lambda f: f[:6] == b"\xff" * 6 and f[12:21] == ARP and f[28:32] == f[38:42] == server)
else:
    question = ARP + b"\1" + mac + client + bytes(6) + server
    wire.send(b"\xff" * 6 + mac + bytes([0x81, 0, 0x60, 0]) + question + bytes(18))
    wait_for(lambda f: f[:6] == mac and f[12:22] == ARP + b"\2" and f[28:32] == server)
