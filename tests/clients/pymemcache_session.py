"""A session with pymemcache: text protocol."""

import check
from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

address = check.server()
client = Client(address, connect_timeout=10, timeout=10, no_delay=True, default_noreply=False)
check.true(client.version().startswith(b"1.6"), "version")
check.true(client.flush_all(), "flush_all")

check.equal(client.get("foo"), None, "get, nothing there")
check.equal(client.get("foo", default="d"), "d", "get with a default")
check.true(client.set("foo", b"bar"), "set")
check.equal(client.get("foo"), b"bar", "get")
check.true(client.set("flagged", b"bar", flags=0xFFFF), "set with flags")
check.equal(client.add("foo", b"other"), False, "add, there already")
check.equal(client.add("new", b"1"), True, "add")
check.equal(client.replace("nothing", b"1"), False, "replace, nothing there")
check.equal(client.replace("new", b"2"), True, "replace")
check.equal(client.append("nothing", b"1"), False, "append, nothing there")
check.true(client.append("foo", b"-end"), "append")
check.true(client.prepend("foo", b"start-"), "prepend")
check.equal(client.get("foo"), b"start-bar-end", "get what was extended")

many = {f"key{n}": check.value_of(f"key{n}", n * 37) for n in range(200)}
check.equal(client.set_many(many), [], "set_many: nothing failed")
check.equal(client.get_many(list(many) + ["missing"]), many, "get_many")
check.true(client.delete_many(["key0", "key1"]), "delete_many")
check.equal(client.get_many(["key0", "key1", "key2"]), {"key2": many["key2"]}, "deleted")

value, cas = client.gets("foo")
check.equal(value, b"start-bar-end", "gets")
check.equal(client.cas("foo", b"new", cas), True, "cas with the right cas")
check.equal(client.cas("foo", b"newer", cas), False, "cas with an old cas")
check.equal(client.cas("missing", b"newer", cas), None, "cas, nothing there")
found = client.gets_many(["foo", "new"])
check.equal(sorted(found), ["foo", "new"], "gets_many")

check.true(client.set("n", b"10"), "set a number")
check.equal(client.incr("n", 5), 15, "incr")
check.equal(client.decr("n", 20), 0, "decr stops at 0")
check.equal(client.incr("missing", 1), None, "incr, nothing there")
client.set("n", b"18446744073709551615")
check.equal(client.incr("n", 1), 0, "incr wraps")
client.set("n", b"abc")
try:
    client.incr("n", 1)
    check.true(False, "incr of a word fails")
except MemcacheClientError:
    check.true(True, "incr of a word fails")

check.true(client.touch("foo", 100), "touch")
check.equal(client.touch("missing", 100), False, "touch, nothing there")
check.true(client.set("gone", b"x", expire=-1), "set, expired immediately")
check.equal(client.get("gone"), None, "get what has expired")
check.equal(client.delete("foo"), True, "delete")
check.equal(client.delete("foo"), False, "delete, nothing there")

for size in (0, 1, 1023, 4096, 65536, 500_000, 1_000_000, 1_048_000):
    key = f"size{size}"
    check.true(client.set(key, check.value_of(key, size)), f"set of {size} bytes")
    check.equal(client.get(key), check.value_of(key, size), f"get of {size} bytes")
try:
    client.set("large", bytes(1_100_000))
    check.true(False, "a value too large is refused")
except MemcacheServerError:
    check.true(True, "a value too large is refused")
check.equal(client.get("size1"), b"s", "and the connection continues")
any_byte = bytes(range(256)) * 8
check.true(client.set("k" * 250, any_byte), "set with the longest key")
check.equal(client.get("k" * 250), any_byte, "get with the longest key")

# It writes all requests before it reads the first answer.
thousands = {f"key-of-a-thousand-bytes-{n:06}": check.value_of(f"{n}", 1000) for n in range(5000)}
check.equal(client.set_many(thousands), [], "set_many of 5,000 values of 1,000 bytes")
check.equal(client.get_many(list(thousands)), thousands, "get_many of 5,000")
check.equal(client.set_many({f"n{n}": b"x" * 20 for n in range(50_000)}), [], "set_many of 50,000")
check.equal(client.get("n49999"), b"x" * 20, "the last of them")

quiet = Client(address, timeout=10, default_noreply=True)
for n in range(500):
    quiet.set(f"quiet{n}", check.value_of(f"quiet{n}", 100))
check.equal(quiet.get("quiet499"), check.value_of("quiet499", 100), "get after 500 noreply sets")
check.equal(client.get("quiet7"), check.value_of("quiet7", 100), "seen by another client")

pool = PooledClient(address, max_pool_size=8, timeout=10)
pool.set("pooled", b"yes", noreply=False)
check.equal(pool.get("pooled"), b"yes", "a pooled client")
statistics = client.stats()
check.true(statistics[b"curr_items"] > 0, "stats")
check.true(client.flush_all(), "flush_all")
check.equal(client.get("pooled"), None, "get after flush_all")
client.quit()
check.done("pymemcache")
