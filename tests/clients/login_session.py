"""Real binary clients that log in by SASL PLAIN, and that do not."""

import os

import bmemcached
import check

# pylibmc brings its own libsasl, without mechanisms; those of Debian's libsasl2-modules do.
os.environ["SASL_PATH"] = "/usr/lib/x86_64-linux-gnu/sasl2"
import pylibmc  # noqa: E402

host, port = check.server()
address = f"{host}:{port}"

client = bmemcached.Client((address,), "alice", "secret", socket_timeout=10)
check.true(client.set("foo", "bar"), "python-binary-memcached: set after the login")
check.equal(client.get("foo"), "bar", "python-binary-memcached: get after the login")

for user, password in [("alice", "wrong"), ("bob", "secret"), (None, None)]:
    stranger = bmemcached.Client((address,), user, password, socket_timeout=10)
    try:
        got = stranger.get("foo")
    except bmemcached.exceptions.AuthenticationNotSupported as error:
        check.true(False, f"the server has SASL: {error}")
    except bmemcached.exceptions.MemcachedException:
        got = None
    check.equal(got, None, f"python-binary-memcached: nothing for {user}")

client = pylibmc.Client([address], binary=True, username="alice", password="secret")
check.equal(client.get("foo"), b"bar", "pylibmc: get after the login")
check.true(client.set("foo", "new"), "pylibmc: set after the login")

stranger = pylibmc.Client([address], binary=True, username="alice", password="wrong")
try:
    got = stranger.get("foo")
except pylibmc.Error:
    got = None
check.equal(got, None, "pylibmc: nothing for a wrong password")

check.done("login")
