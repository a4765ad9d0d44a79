"""A session with python-binary-memcached: binary protocol."""

import bmemcached
import check
from bmemcached.exceptions import MemcachedException

host, port = check.server()
client = bmemcached.Client((f"{host}:{port}",), socket_timeout=10)
check.true(client.flush_all(), "flush_all")

check.equal(client.get("foo"), None, "get, nothing there")
check.true(client.set("foo", "bar"), "set")
check.equal(client.get("foo"), "bar", "get")
check.equal(client.add("foo", "other"), False, "add, there already")
check.equal(client.add("new", "1"), True, "add")
check.equal(client.replace("nothing", "1"), False, "replace, nothing there")
check.equal(client.replace("new", "2"), True, "replace")
check.true(client.set("structure", {"a": [1, 2, 3]}), "set of a structure: flags")
check.equal(client.get("structure"), {"a": [1, 2, 3]}, "get of a structure: flags are returned")
check.true(client.set("number", 12345), "set of a number")
check.equal(client.get("number"), 12345, "get of a number")

many = {f"key{n}": check.value_of(f"key{n}", n * 37) for n in range(200)}
check.equal(client.set_multi(many), [], "set_multi: nothing failed")
check.equal(client.get_multi(list(many) + ["missing"]), many, "get_multi")
check.true(client.delete_multi(["key0", "key1"]), "delete_multi")
check.equal(client.get_multi(["key0", "key1", "key2"]), {"key2": many["key2"]}, "deleted")

value, cas = client.gets("foo")
check.equal(value, "bar", "gets")
check.true(cas, "gets gives a cas")
check.equal(client.cas("foo", "new", cas), True, "cas with the right cas")
check.equal(client.cas("foo", "newer", cas), False, "cas with an old cas")
check.equal(client.get("foo"), "new", "get after cas")
value, cas = client.gets("foo")
check.equal(client.delete("foo", cas=cas + 1), False, "delete with a wrong cas")
check.equal(client.delete("foo", cas=cas), True, "delete with the right cas")
check.equal(client.get("foo"), None, "deleted")

check.equal(client.incr("n", 5, default=10), 10, "incr makes")
check.equal(client.incr("n", 5), 15, "incr")
check.equal(client.decr("n", 20), 0, "decr stops at 0")
client.set("foo", "new")
check.true(client.set("gone", "x", time=2_592_001), "set, expired long ago")
check.equal(client.get("gone"), None, "get what has expired")

for size in (0, 1, 1023, 4096, 65536, 500_000, 1_000_000, 1_048_000):
    key = f"size{size}"
    value = check.value_of(key, size)
    check.true(client.set(key, value, compress_level=0), f"set of {size} bytes")
    check.equal(client.get(key), value, f"get of {size} bytes")
try:
    client.set("large", bytes(1_100_000), compress_level=0)
    check.true(False, "a value too large is refused")
except MemcachedException as refusal:
    check.equal(refusal.code, 3, "a value too large is refused")
check.equal(client.get("size1"), b"s", "and the connection continues")
key = "k\u00e9y \u2603"
check.true(client.set(key, "unicode"), "set with a key that text could not hold")
check.equal(client.get(key), "unicode", "get with a key that text could not hold")
check.true(client.set("k" * 250, "long"), "set with the longest key")
check.equal(client.get("k" * 250), "long", "get with the longest key")

statistics = client.stats()[f"{host}:{port}"]
check.true(int(statistics["curr_items"]) > 0, "stats")
check.true(client.flush_all(), "flush_all")
check.equal(client.get("new"), None, "get after flush_all")
client.disconnect_all()
check.done("python-binary-memcached")
