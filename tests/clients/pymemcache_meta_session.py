"""A session with pymemcache's raw commands: every meta command and flag, and pipelines of them.

A third argument 'old' leaves out what memcached 1.6.18 answers otherwise than 1.6.45.
"""

import re
import socket
import sys
import types

import check
from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError


class Joined(socket.socket):
    """pymemcache 4.0.0 loses all but the last piece of a raw reply that arrives in pieces."""

    end = b"\r\n"

    def recv(self, size):
        data = b""
        while not data.endswith(Joined.end):
            piece = super().recv(size)
            if not piece:
                return b""
            data += piece
        return data


joined = types.SimpleNamespace(**{**vars(socket), "socket": Joined})
old = sys.argv[3:] == ["old"]
client = Client(check.server(), connect_timeout=10, timeout=10, socket_module=joined)


def meta(line, expected, what=None, data=None):
    """A command whose answer is one line; '#' in it stands for a number, which is returned."""
    sent = line if data is None else line.encode() + b"\r\n" + data
    try:
        got = client.raw_command(sent).decode()
    except MemcacheClientError as error:
        got = f"CLIENT_ERROR {error.args[0].decode()}"
    pattern = re.escape(expected).replace(r"\#", "([0-9]+)")
    found = re.fullmatch(pattern, got)
    check.equal(got if found is None else expected, expected, what or line)
    return int(found.group(1)) if found and found.groups() else None


def pipeline(lines, expected, what):
    """Commands that are ended by mn; all their answers up to its own."""
    Joined.end = b"MN\r\n"
    got = client.raw_command(b"\r\n".join(lines) + b"\r\nmn", end_tokens=Joined.end)
    Joined.end = b"\r\n"
    check.equal(got, expected, what)


client.flush_all(noreply=False)
meta("mn", "MN")

# Misses, hits, and what a hit tells.
meta("mg k", "EN")
meta("mg k v t s c f h l u", "EN", "a miss has no flags")
if not old:
    meta("mg k v k O1", "EN kk O1", "but key and opaque")
first = meta("ms k 5 F77 T300 c", "HD c#", data=b"value")
meta("mg k", "HD")
meta("mg k s f c", f"HD s5 f77 c{first}")
meta("mg k O12345 k", "HD O12345 kk")
meta("mg k h", "HD h1")
meta("ms fresh 1", "HD", data=b"x")
age = meta("mg fresh u h l", "HD h0 l#")
check.true(0 <= age <= 10, "last access, in whole seconds of the server")
meta("mg fresh t", "HD t-1")
left = meta("mg k t", "HD t#")
check.true(298 <= left <= 300, "its expiry")
pipeline([b"mg k v", b"mg k s v f"], b"VA 5\r\nvalue\r\nVA 5 s5 f77\r\nvalue\r\n", "values")
left = meta("mg k T500 t", "HD t#", "touched, before t")
check.true(498 <= left <= 500, "its expiry")
meta("mg fresh !", "CLIENT_ERROR invalid flag")

# Modes of ms.
meta("ms k 1 ME", "NS", "add, there already", b"x")
meta("ms new 3 ME", "HD", "add", b"new")
meta("ms new 1 MA", "HD", "append", b">")
meta("ms new 1 MP", "HD", "prepend", b"<")
meta("ms none 1 MR", "NS", "replace, nothing there", b"x")
meta("ms none 1 MA", "NS", "append, nothing there", b"x")
if not old:
    meta("ms none 1 MA N60", "HD", "append that vivifies", b"x")
meta("ms new 6 MR", "HD", "replace", b"<news>")
pipeline([b"mg new v"], b"VA 6\r\n<news>\r\n", "what was stored")
meta("ms k 1 C1", "EX", "a wrong cas", b"x")
meta("ms none2 1 C1", "NF", "a cas, nothing there", b"x")
second = meta(f"ms k 5 C{first} c O9 k", "HD c# O9 kk", "the right cas", b"again")
check.true(second != first, "a new cas")
meta("ms k bad", "CLIENT_ERROR bad command line format")
meta("mg k s", "HD s5", "the connection goes on")

# ma
meta("ma n", "NF")
meta("ma n N60 J10", "HD")
counts = b"VA 2\r\n11\r\nVA 2\r\n16\r\nVA 2\r\n15\r\nVA 1\r\n0\r\n"
pipeline([b"ma n v", b"ma n v D5", b"ma n v MD", b"ma n v MD D99"], counts, "ma counts")
cas = meta("ma n c", "HD c#")
meta(f"ma n C{cas} T90 t", "HD t90")
meta(f"ma n C{cas}", "EX")
meta("ma k", "CLIENT_ERROR cannot increment or decrement non-numeric value")

# md, stale items, and who fetches them.
meta("md k C1", "EX")
meta("md none2", "NF")
if not old:
    meta("md none2 O4 k", "NF O4 knone2")
meta("md k I T30", "HD", "invalidate")
cas = meta("mg k c", "HD c# X W", "the first reader wins")
check.true(cas > second, "its cas is above the one before")
meta("mg k s", "HD s5 Z X", "the others do not")
meta("md k I", "HD", "invalidated again, while the winner fetches")
meta("ms k 4 C1 I", "HD", "an old cas with I stores a stale value", b"late")
cas = meta("mg k c", "HD c# X W", "which is to be fetched again")
meta(f"ms k 5 C{cas}", "HD", "the winner stores", b"fresh")
pipeline([b"mg k v"], b"VA 5\r\nfresh\r\n", "a fresh value")
cas = meta("mg vivid N30 c t", "HD c# t30 W", "vivify")
meta("mg vivid N30 s", "HD s0 Z", "vivified already")
meta(f"ms vivid 4 C{cas}", "HD", "the winner stores", b"made")
meta("ms soon 1 T20", "HD", "an expiry", b"x")
meta("mg soon R10", "HD", "not due")
meta("mg soon R30", "HD W", "due")
meta("mg soon R30", "HD Z", "won already")

# base64, me, quiet pipelines.
meta("ms a2V5IHdpdGggc3BhY2U= 2 b", "HD", "a key in base64", b"ok")
meta("mg a2V5IHdpdGggc3BhY2U= b k s", "HD ka2V5IHdpdGggc3BhY2U= b s2")
meta("mg a2V5IHdpdGggc3BhY2U=", "EN", "in plain it is another key")
meta("me none2", "EN")
check.true(client.raw_command("me fresh").startswith(b"ME fresh exp=-1 la="), "me")
pipeline(
    [b"mg none2 v q", b"mg new v q k", b"mg none3 v q", b"mg fresh v q O7"],
    b"VA 6 knew\r\n<news>\r\nVA 1 O7\r\nx\r\n",
    "quiet gets answer hits only",
)
pipeline(
    [b"ms q1 1 q\r\na", b"ms q1 1 q ME\r\na", b"md q1 q", b"md q1 q", b"ma q1 q", b"ma n q"],
    b"NS\r\nNF\r\nNF\r\n",
    "quiet changes answer failures only",
)
many = [b"ms many%d 100 q\r\n%s" % (n, check.value_of(f"many{n}", 100)) for n in range(5000)]
pipeline(many, b"", "5,000 quiet sets")
answers = b"".join(
    b"VA 100 O%d\r\n%s\r\n" % (n, check.value_of(f"many{n}", 100)) for n in range(5000)
)
pipeline([b"mg many%d v O%d q" % (n, n) for n in range(5000)], answers, "5,000 quiet gets")
large = check.value_of("large", 1_000_000)
meta("ms large 1000000", "HD", "a large value", large)
pipeline([b"mg large v s"], b"VA 1000000 s1000000\r\n" + large + b"\r\n", "and back")
check.equal(client.get("new"), b"<news>", "text commands on the same connection")

if not old:
    meta("ms fixed 1 E777 c", "HD c777", "a chosen cas", b"x")
    meta("mg fixed c", "HD c777")
    meta("ms fixed 1 C777 E778", "HD", "a chosen cas in place of another", b"y")
    meta("ms fixed 1 C777", "EX", "which the older one does not match", b"z")
    meta("ma n E9 c", "HD c9")
    meta("md fixed C778 I E900", "HD")
    meta("mg fixed c", "HD c900 X W")
    meta("md fixed x", "HD", "the value alone is deleted")
    meta("mg fixed s f", "HD s0 f0")

pool = PooledClient(check.server(), max_pool_size=4, timeout=10)
check.equal(pool.raw_command("mg new s"), b"HD s6", "a pooled client")
check.done("pymemcache, meta")
