"""A session with pylibmc, which is libmemcached: both protocols."""

import check
import pylibmc

host, port = check.server()


def missing(operation, what):
    """In text libmemcached returns "not stored", in binary "not found": no item."""
    try:
        check.equal(operation(), False, what)
    except pylibmc.NotFound:
        check.true(True, what)


def session(binary):
    """The same for both; some answers are exceptions in only one of them."""
    name = "binary" if binary else "text"
    behaviors = {
        "tcp_nodelay": True,
        "cas": True,
        "connect_timeout": 10_000,
        "receive_timeout": 10_000_000,
        "send_timeout": 10_000_000,
    }
    client = pylibmc.Client([f"{host}:{port}"], binary=binary, behaviors=behaviors)
    check.true(client.flush_all(), f"{name}: flush_all")
    check.equal(client.get("foo"), None, f"{name}: get, nothing there")
    check.true(client.set("foo", "bar"), f"{name}: set")
    check.equal(client.get("foo"), "bar", f"{name}: get")
    check.equal(client.add("foo", "other"), False, f"{name}: add, there already")
    check.equal(client.add("new", "1"), True, f"{name}: add")
    missing(lambda: client.replace("nothing", "1"), f"{name}: replace, nothing there")
    check.equal(client.replace("new", "2"), True, f"{name}: replace")
    check.true(client.append("foo", "-end"), f"{name}: append")
    check.true(client.prepend("foo", "start-"), f"{name}: prepend")
    check.equal(client.get("foo"), "start-bar-end", f"{name}: get what was extended")
    check.true(client.set("structure", {"a": [1, 2]}), f"{name}: set of a structure")
    check.equal(client.get("structure"), {"a": [1, 2]}, f"{name}: get of a structure")

    many = {f"key{n}": check.value_of(f"key{n}", n * 37) for n in range(200)}
    check.equal(client.set_multi(many), [], f"{name}: set_multi: nothing failed")
    check.equal(client.get_multi(list(many) + ["missing"]), many, f"{name}: get_multi")
    prefixed = {f"{n}": n for n in range(50)}
    check.equal(client.set_multi(prefixed, key_prefix="p-"), [], f"{name}: set_multi, prefix")
    check.equal(client.get_multi(list(prefixed), key_prefix="p-"), prefixed, f"{name}: prefix")
    check.true(client.delete_multi(["key0", "key1"]), f"{name}: delete_multi")
    check.equal(client.get("key0"), None, f"{name}: deleted")

    value, cas = client.gets("foo")
    check.equal(value, "start-bar-end", f"{name}: gets")
    check.equal(client.cas("foo", "new", cas), True, f"{name}: cas with the right cas")
    check.equal(client.cas("foo", "newer", cas), False, f"{name}: cas with an old cas")
    check.equal(client.get("foo"), "new", f"{name}: get after cas")

    client.set("n", 10)
    check.equal(client.incr("n", 5), 15, f"{name}: incr")
    check.equal(client.decr("n", 20), 0, f"{name}: decr stops at 0")
    try:
        client.incr("missing", 1)
        check.true(False, f"{name}: incr, nothing there")
    except pylibmc.NotFound:
        check.true(True, f"{name}: incr, nothing there")
    check.equal(client.touch("foo", 100), True, f"{name}: touch")
    check.equal(client.touch("missing", 100), False, f"{name}: touch, nothing there")
    check.equal(client.delete("foo"), True, f"{name}: delete")
    check.equal(client.delete("foo"), False, f"{name}: delete, nothing there")

    for size in (0, 1, 1023, 4096, 65536, 500_000, 1_000_000, 1_048_000):
        key = f"size{size}"
        value = check.value_of(key, size)
        check.true(client.set(key, value), f"{name}: set of {size} bytes")
        check.equal(client.get(key), value, f"{name}: get of {size} bytes")
    statistics = dict(client.get_stats()[0][1])
    check.true(int(statistics["curr_items"]) > 0, f"{name}: stats")
    check.true(client.flush_all(), f"{name}: flush_all")
    check.equal(client.get("new"), None, f"{name}: get after flush_all")
    client.disconnect_all()


session(binary=False)
session(binary=True)
check.done("pylibmc")
