"""Raw frames at the client's end of a wire: frames.py announced | tagged | flood.

announced: waits for an announcement of 10.77.0.1 (RFC 5227). tagged: requests 10.77.0.1 in a frame
with the tag of VLAN 0, and expects an answer without one. flood: begins 5,000 handshakes with 10.77.0.1
and ends none."""

import socket
import struct
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


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def syn(number):
    """The first segment of a handshake from an address that answers nothing."""
    peer = socket.inet_aton(f"10.77.0.{100 + number % 100}")
    tcp = [1024 + number, 11211, number, 0, 5 << 4, 2, 8192, 0, 0]
    pseudo = peer + server + struct.pack("!2H", 6, 20)
    tcp[7] = checksum(pseudo + struct.pack("!2H2I2B3H", *tcp))
    ip = [0x45, 0, 40, 0, 0, 64, 6, 0, peer, server]
    ip[7] = checksum(struct.pack("!2B3H2BH4s4s", *ip))
    return struct.pack("!2B3H2BH4s4s", *ip) + struct.pack("!2H2I2B3H", *tcp)


def server_mac():
    question = ARP + b"\1" + mac + client + bytes(6) + server
    wire.send(b"\xff" * 6 + mac + question + bytes(18))
    answer = wait_for(lambda f: f[:6] == mac and f[12:22] == ARP + b"\2" and f[28:32] == server)
    return answer[6:12]


if sys.argv[1] == "flood":
    head = server_mac() + mac + bytes([8, 0])
    for number in range(5000):
        wire.send(head + syn(number) + bytes(6))
        if number % 50 == 0:
            time.sleep(0.001)
elif sys.argv[1] == "announced":
    print("listening", flush=True)
    wait_for(lambda f: f[:6] == b"\xff" * 6 and f[12:21] == ARP and f[28:32] == f[38:42] == server)
else:
    question = ARP + b"\1" + mac + client + bytes(6) + server
    wire.send(b"\xff" * 6 + mac + bytes([0x81, 0, 0x60, 0]) + question + bytes(18))
    wait_for(lambda f: f[:6] == mac and f[12:22] == ARP + b"\2" and f[28:32] == server)
