"""Shared by the client sessions: arguments, and checks that are counted."""

import sys

checked = 0


def server():
    """The server's address from the command line: HOST PORT."""
    return sys.argv[1], int(sys.argv[2])


def equal(got, expected, what):
    """Fails the session unless both are equal."""
    global checked
    checked += 1
    if got != expected:
        sys.exit(f"{what}: expected {short(expected)}, got {short(got)}")


def true(got, what):
    """Fails the session unless this holds."""
    equal(bool(got), True, what)


def short(value):
    """Values of a megabyte are abbreviated."""
    text = repr(value)
    return text if len(text) < 200 else f"{text[:100]}.. ({len(text)} characters)"


def value_of(key, size):
    """A value unique to this key."""
    word = f"{key}:{size}:".encode()
    return (word * (size // len(word) + 1))[:size]


def done(name):
    """The line with the result."""
    print(f"{name}: {checked} checks hold")
