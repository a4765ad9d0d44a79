#!/usr/bin/env python3
"""A faulty wire between two interfaces: loses, reorders and duplicates 1 % of the frames each way.

The same faults for any two hosts, so that sunder's TCP stack and the kernel's can be compared where
the kernel has no netem. Run by tests/compare_tcp.sh in a separate namespace; ends on SIGTERM.

usage: bad_wire.py SEED IN_A_MILLION INTERFACE INTERFACE
"""

import random
import select
import socket
import sys
import time

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python does not name it
FRAME_BYTES = 2048
# A delayed frame is sent after this many others, or after this time if there are none.
LATE_FRAMES = 3
LATE_S = 0.0002
BUFFER_BYTES = 16 << 20


def open_interface(name):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    end.bind((name, 0))
    end.setblocking(False)
    return end


class Lane:
    """One direction."""

    def __init__(self, source, sink, chance, seed):
        self.source, self.sink, self.chance = source, sink, chance
        self.random = random.Random(seed).random
        self.late = []

    def send(self, frame):
        try:
            self.sink.send(frame)
        except (BlockingIOError, OSError):
            pass  # A full queue loses frames, as a switch's does.

    def turn(self):
        """Forwards received frames, a bounded number."""
        for _ in range(64):
            try:
                frame, address = self.source.recvfrom(FRAME_BYTES)
            except BlockingIOError:
                break
            if address[2] == socket.PACKET_OUTGOING:
                continue
            draw = self.random() / self.chance if self.chance else 4
            if draw < 1:
                continue
            if draw < 2:
                self.late.append([LATE_FRAMES, time.monotonic() + LATE_S, frame])
                continue
            self.send(frame)
            if draw < 3:
                self.send(frame)
            if self.late:
                for held in self.late:
                    held[0] -= 1
                self.release(0)
        if self.late:
            self.release(time.monotonic())

    def release(self, now):
        due = [held for held in self.late if held[0] <= 0 or held[1] <= now]
        if due:
            self.late = [held for held in self.late if held not in due]
            for held in due:
                self.send(held[2])


def main():
    seed, chance = int(sys.argv[1]), int(sys.argv[2]) / 1e6
    ends = [open_interface(name) for name in sys.argv[3:5]]
    lanes = [Lane(ends[0], ends[1], chance, seed), Lane(ends[1], ends[0], chance, seed + 1)]
    print("ready", flush=True)
    while True:
        is_late = any(lane.late for lane in lanes)
        select.select(ends, [], [], LATE_S if is_late else 1)
        for lane in lanes:
            lane.turn()


main()
