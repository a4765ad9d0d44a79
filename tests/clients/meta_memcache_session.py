"""A session with meta-memcache: meta commands only."""

import base64
import logging
import random
import socket

import check
from meta_memcache import CacheClient, Key, ServerAddress, SetMode
from meta_memcache.configuration import (
    LeasePolicy,
    RecachePolicy,
    StalePolicy,
    connection_pool_factory_builder,
)
from meta_memcache.errors import MemcacheError
from meta_memcache.protocol import Conflict, Miss, NotStored, RequestFlags, Success, Value

host, port = check.server()
# It logs the errors that are expected here.
logging.disable()


def connect(**options):
    return CacheClient.cache_client_from_servers(
        servers=[ServerAddress(host, port)],
        connection_pool_factory_fn=connection_pool_factory_builder(
            connection_timeout=10,
            recv_timeout=10,
            mark_down_period_s=0.1,
            # With its default of 4,096 each large value takes seconds on the loopback interface.
            read_buffer_size=1 << 20,
        ),
        **options,
    )


def values():
    for number, value in enumerate(["text", b"", "ä€", b"\x00\xff\r\n", 42, -1, [1, {"a": None}]]):
        check.true(client.set(f"kind{number}", value, ttl=60), f"set of {value!r}")
        check.equal(client.get(f"kind{number}"), value, f"get of {value!r}")
    check.equal(client.get_typed("kind0", str), "text", "get_typed")
    check.equal(client.get_typed("kind0", int), None, "get_typed of another type")
    check.equal(client.get_cas_typed("kind4", int)[0], 42, "get_cas_typed")
    check.equal(client.get("nothing"), None, "get, nothing there")
    check.equal(client.get_cas("nothing"), (None, None), "get_cas, nothing there")
    plain = connect(serializer=None)
    # Values of random bytes, which compression does not shorten.
    for size in (127, 129, 4096, 65536, 500_000, 1_000_000):
        value = check.value_of(f"size{size}", size)
        raw = bytes(a ^ b for a, b in zip(value, noise(size)))
        check.true(plain.set(f"size{size}", raw, ttl=0), f"set of {size} bytes")
        check.equal(plain.get(f"size{size}"), raw, f"get of {size} bytes")
    try:
        plain.set("large", noise(1_200_000), ttl=0)
        check.true(False, "a value too large is refused")
    except MemcacheError:
        check.true(True, "a value too large is refused")
    check.equal(plain.get("kind0"), "text", "the client continues after a refusal")


def noise(size):
    """The same bytes each time, which zlib cannot shorten."""
    return random.Random(size).randbytes(size)


def storing():
    modes = [
        (SetMode.ADD, "absent", True),
        (SetMode.ADD, "absent", False),
        (SetMode.REPLACE, "absent", True),
        (SetMode.REPLACE, "absent2", False),
        (SetMode.APPEND, "absent2", False),
        (SetMode.PREPEND, "absent2", False),
    ]
    for mode, key, stored in modes:
        got = client.set(key, "middle", ttl=60, set_mode=mode)
        check.equal(got, stored, f"set with mode {mode} of {key}")
    check.true(client.set("absent", "-end", ttl=60, set_mode=SetMode.APPEND), "append")
    check.true(client.set("absent", "start-", ttl=60, set_mode=SetMode.PREPEND), "prepend")
    check.equal(client.get("absent"), "start-middle-end", "what was extended")
    check.equal(client.refill("absent", "other", ttl=60), False, "refill, there already")
    check.equal(client.refill("filled", "new", ttl=60), True, "refill")
    check.equal(client.get("filled"), "new", "what was filled")
    check.equal(client.delete("filled"), True, "delete")
    check.equal(client.delete("filled"), False, "delete, nothing there")
    check.equal(client.invalidate("filled"), True, "invalidate, nothing there")
    check.true(client.touch("absent", ttl=100), "touch")
    check.equal(client.touch("filled", ttl=100), False, "touch, nothing there")
    check.equal(client.get("absent", touch_ttl=200), "start-middle-end", "get and touch")
    answer = client.meta_get(Key("absent"), RequestFlags(return_ttl=True, return_size=True))
    check.true(isinstance(answer, Success), "mg without a value")
    check.true(198 <= answer.flags.ttl <= 200, "the expiry of the touch")
    check.equal(answer.flags.size, 16, "the size")
    # More than 30 days is a point in time, here in 1970: the client sends no -1.
    check.true(client.set("gone", "x", ttl=2_592_001), "set, expired at once")
    check.equal(client.get("gone"), None, "get what has expired")


def compare_and_swap():
    first = client.set_cas("cas", "one", ttl=60)
    check.true(first, "set_cas returns a number")
    check.equal(client.get_cas("cas"), ("one", first), "get_cas")
    second = client.set_cas("cas", "two", ttl=60, cas_token=first)
    check.true(second and second != first, "set with the right cas")
    check.equal(client.set("cas", "three", ttl=60, cas_token=first), False, "set with an old cas")
    check.equal(client.get("cas"), "two", "which changed nothing")
    check.equal(client.set("no-cas", "x", ttl=60, cas_token=5), False, "cas, nothing there")
    answer = client.meta_set(Key("cas"), "three", RequestFlags(cas_token=first))
    check.true(isinstance(answer, Conflict), "ms with an old cas is a conflict")
    answer = client.meta_set(Key("no-cas"), "three", RequestFlags(cas_token=first))
    check.true(isinstance(answer, Miss), "ms with a cas, nothing there, is a miss")
    answer = client.meta_set(Key("cas"), "x", RequestFlags(mode=SetMode.ADD.value))
    check.true(isinstance(answer, NotStored), "ms in add mode, there already")
    check.equal(client.delete("cas", cas_token=first), False, "delete with an old cas")
    check.equal(client.delete("cas", cas_token=second), True, "delete with the right cas")
    check.equal(client.get("cas"), None, "deleted")


def counting():
    check.equal(client.delta("n", 1), False, "delta, nothing there")
    check.equal(client.delta_and_get("n", 1), None, "delta_and_get, nothing there")
    got = client.delta_initialize_and_get("n", 1, initial_value=10, initial_ttl=60)
    check.equal(got, 10, "delta_initialize_and_get, nothing there")
    got = client.delta_initialize_and_get("n", 5, initial_value=10, initial_ttl=60)
    check.equal(got, 15, "delta_initialize_and_get")
    check.equal(client.delta_initialize("n", 1, initial_value=3, initial_ttl=60), True, "delta")
    check.equal(client.delta_and_get("n", -6, refresh_ttl=500), 10, "delta down, and touched")
    left = client.meta_get(Key("n"), RequestFlags(return_ttl=True)).flags.ttl
    check.true(498 <= left <= 500, "the expiry of the count")
    check.equal(client.delta_and_get("n", -60), 0, "delta stops at 0")
    _, cas = client.get_cas("n")
    check.equal(client.delta("n", 1, cas_token=cas), True, "delta with the right cas")
    check.equal(client.delta("n", 1, cas_token=cas), False, "delta with an old cas")
    check.true(client.set("n", str(2**64 - 1), ttl=0), "set the largest number")
    check.equal(client.delta_and_get("n", 2), 1, "delta wraps")
    client.set("n", "abc", ttl=0)
    try:
        client.delta("n", 1)
        check.true(False, "delta of a word fails")
    except MemcacheError:
        check.true(True, "delta of a word fails")


def many():
    wanted = {f"many{n}": check.value_of(f"many{n}", n * 37) for n in range(500)}
    for key, value in wanted.items():
        check.true(client.set(key, value, ttl=0, no_reply=True), f"quiet set of {key}")
    found = client.multi_get(list(wanted) + ["missing1", "missing2"])
    got = {key.key: value for key, value in found.items()}
    check.equal(got, {**wanted, "missing1": None, "missing2": None}, "multi_get")
    pairs = {key.key: pair for key, pair in client.multi_get_cas(["many1", "missing1"]).items()}
    check.equal(pairs["missing1"], (None, None), "multi_get_cas, nothing there")
    check.equal(pairs["many1"], (wanted["many1"], client.get_cas("many1")[1]), "multi_get_cas")
    for n in range(0, 500, 2):
        check.true(client.delete(f"many{n}", no_reply=True), "quiet delete")
    left = client.multi_get([Key(f"many{n}") for n in range(500)])
    check.equal(
        {key.key for key, value in left.items() if value is None},
        {f"many{n}" for n in range(0, 500, 2)},
        "multi_get after quiet deletes",
    )
    client.set("quiet", 1, ttl=0)
    check.true(client.delta("quiet", 4, no_reply=True), "quiet delta")
    check.true(client.touch("quiet", 77, no_reply=True), "quiet touch")
    check.equal(client.get("quiet"), 5, "after a quiet delta")
    check.equal(client.get("nothing"), None, "and answers are still those of their requests")


def keys():
    # The client writes a key with a space or bytes above 127 in base64.
    for key in ["a b", "ключ", "emoji🎈", "tab\there", "k" * 200]:
        check.true(client.set(key, f"value of {key}", ttl=0), f"set of {key!r}")
        check.equal(client.get(key), f"value of {key}", f"get of {key!r}")
    found = client.multi_get(["a b", "ключ", "k" * 200, "к"])
    got = [found[Key(key)] for key in ["a b", "ключ", "к"]]
    check.equal(got, ["value of a b", "value of ключ", None], "multi_get of such keys")
    name = base64.b64encode("ключ".encode()).decode()
    check.equal(client.get(name), None, "the key in base64 is another key")
    check.true(client.delete("ключ"), "delete of such a key")
    check.equal(client.get("ключ"), None, "deleted")
    plain = connect(key_encoder_fn=lambda key: b"prefix:" + key.key.encode())
    check.true(plain.set("x", "encoded", ttl=0), "set through a key encoder")
    check.equal(client.get("prefix:x"), "encoded", "is under the encoded key")


def leases():
    lease = LeasePolicy(ttl=30, miss_retries=2)
    waits = []
    value, token = client.get_or_lease_cas("lease", lease, lease_wait_fn=waits.append)
    check.equal((value, waits), (None, []), "the first client wins the lease at once")
    value, other = client.get_or_lease_cas("lease", lease, lease_wait_fn=waits.append)
    check.equal((value, len(waits)), (None, 1), "the second waits, and then gets a miss")
    check.true(client.set("lease", "filled", ttl=60, cas_token=token), "the winner stores")
    check.equal(client.get_or_lease("lease", lease), "filled", "everybody gets its value")
    check.equal(client.set("lease", "late", ttl=60, cas_token=token), False, "once")
    late = client.get_or_lease_cas("lease2", lease, lease_wait_fn=waits.append)[1]
    check.true(client.set("lease2", "newer", ttl=60), "somebody else stores meanwhile")
    check.equal(client.set("lease2", "x", ttl=60, cas_token=late), False, "the winner is too late")
    check.equal(client.get("lease2"), "newer", "the newer value stays")


def recaching():
    client.set("recache", "value", ttl=20)
    policy = RecachePolicy(ttl=30)
    check.equal(client.get("recache", recache_policy=RecachePolicy(ttl=5)), "value", "not due")
    value, token = client.get_cas("recache", recache_policy=policy)
    check.equal(value, None, "one client wins, and sees a miss")
    for _ in range(3):
        check.equal(client.get("recache", recache_policy=policy), "value", "the others a value")
    found = client.multi_get(["recache"], recache_policy=policy)
    check.equal(found, {Key("recache"): "value"}, "multi_get with a policy")
    check.true(client.set("recache", "new", ttl=60, cas_token=token), "the winner stores")
    check.equal(client.get("recache", recache_policy=policy), "new", "the new value")


def staleness():
    stale = StalePolicy(mark_stale_on_deletion_ttl=30, mark_stale_on_cas_mismatch=True)
    first = client.set_cas("stale", "old", ttl=100)
    check.equal(client.delete("stale", stale_policy=stale), True, "delete marks it stale")
    value, token = client.get_cas("stale")
    check.equal(value, None, "one client wins it")
    check.true(token != first, "its number has changed")
    answer = client.meta_get(Key("stale"), RequestFlags(return_value=True, return_ttl=True))
    check.true(isinstance(answer, Value), "the others get a value")
    flags = answer.flags
    check.equal((answer.value, flags.stale, flags.win), ("old", True, False), "the stale one")
    check.true(28 <= flags.ttl <= 30, "with the expiry of the policy")
    check.equal(client.get("stale"), "old", "get, too")
    check.true(client.set("stale", "new", ttl=60, cas_token=token), "the winner stores")
    answer = client.meta_get(Key("stale"), RequestFlags(return_value=True))
    flags = answer.flags
    check.equal((answer.value, flags.stale, flags.win), ("new", False, None), "a fresh value")
    # Invalidated again while the winner fetches: what it stores is stale at once.
    client.invalidate("stale", stale_policy=stale)
    _, token = client.get_cas("stale")
    client.invalidate("stale", stale_policy=stale)
    check.true(client.set("stale", "between", ttl=60, cas_token=token, stale_policy=stale), "late")
    answer = client.meta_get(Key("stale"), RequestFlags(return_value=True))
    flags = answer.flags
    got = (answer.value, flags.stale, flags.win)
    check.equal(got, ("between", True, True), "stored, and stale, and to be fetched again")
    check.equal(client.invalidate("nothing", stale_policy=stale), True, "nothing to invalidate")
    check.equal(client.delete("nothing", stale_policy=stale), False, "delete, nothing there")


def raw():
    key = Key("raw")
    flags = RequestFlags(return_cas_token=True, return_key=True, opaque=b"o1", cache_ttl=300)
    stored = client.meta_set(key, "value", flags)
    check.true(isinstance(stored, Success), "ms")
    check.equal(stored.flags.opaque, b"o1", "ms returns the opaque")
    everything = RequestFlags(
        return_value=True,
        return_ttl=True,
        return_size=True,
        return_client_flag=True,
        return_cas_token=True,
        return_last_access=True,
        return_fetched=True,
        return_key=True,
        opaque=b"o2",
    )
    answer = client.meta_get(key, everything)
    flags = answer.flags
    check.equal(answer.value, "value", "mg")
    check.equal((flags.size, flags.client_flag, flags.opaque), (5, 0, b"o2"), "mg's flags")
    check.equal(flags.cas_token, stored.flags.cas_token, "the cas of the set")
    check.equal(flags.fetched, False, "not fetched before")
    check.true(0 <= flags.last_access <= 10, "last access, in whole seconds of the server")
    check.true(298 <= flags.ttl <= 300, "its expiry")
    check.equal(client.meta_get(key, everything).flags.fetched, True, "fetched before")
    forever = client.meta_set(key, "value", RequestFlags())
    check.true(isinstance(forever, Success), "ms without an expiry")
    check.equal(client.meta_get(key, everything).flags.ttl, -1, "no expiry")
    quiet = client.meta_get(key, RequestFlags(return_fetched=True, no_update_lru=True))
    check.true(isinstance(quiet, Success), "mg that is no use")
    counted = client.meta_arithmetic(
        Key("raw-n"), RequestFlags(return_value=True, ma_initial_value=7, vivify_on_miss_ttl=60)
    )
    check.equal(counted.value, "7", "ma with a first value")
    check.true(isinstance(client.meta_delete(key, RequestFlags(opaque=b"o3")), Success), "md")
    check.true(isinstance(client.meta_delete(key, RequestFlags()), Miss), "md, nothing there")
    check.true(isinstance(client.meta_get(key, everything), Miss), "mg, nothing there")
    found = client.meta_multiget([Key("raw-n"), key], RequestFlags(return_value=True))
    check.equal(found[Key("raw-n")].value, "7", "mg of several keys")
    check.true(isinstance(found[key], Miss), "a miss among them")


# The client has no flush_all.
with socket.create_connection((host, port), timeout=10) as connection:
    connection.sendall(b"flush_all\r\n")
    check.equal(connection.recv(16), b"OK\r\n", "flush_all")
client = connect()
for part in (values, storing, compare_and_swap, counting, many, keys):
    part()
for part in (leases, recaching, staleness, raw):
    part()
counters = client.get_counters()
check.equal([c.total_errors for c in counters.values()], [1], "only the refused value cost a connection")
check.done("meta-memcache")
