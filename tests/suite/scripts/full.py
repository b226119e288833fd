"""What a program meets on a disk that is full: one number for it, and nothing else that is wrong.

full.py KEPT     KEPT is a copy of what was safe before
"""

import errno
import os
import sys

kept = open(sys.argv[1], "rb").read()


def refused(what, attempt):
    """It has to fail, with ENOSPC, or at least not otherwise."""
    try:
        attempt()
    except OSError as error:
        assert error.errno == errno.ENOSPC, f"{what}: {error}"
        return True
    return False


def write(name, data):
    with open(name, "wb", buffering=0) as out:
        assert out.write(data) == len(data)


def write_many():
    with open("more", "ab", buffering=0) as out:
        for _ in range(400):
            out.write(os.urandom(1 << 18))


def synced(name, data):
    with open(name, "ab", buffering=0) as out:
        out.write(data)
        os.fsync(out.fileno())


assert refused("much", write_many), "a full disk took 100 MiB"
# What is known of the disk is a moment old at most, and from here on nothing is taken.
for attempt in range(3):
    assert refused("a write", lambda: write("more", b"x" * 9000)), "a full disk takes a file"
    assert refused("a synced write", lambda: synced("kept", b"x")), "a full disk takes an append"
    assert refused("a directory", lambda: os.mkdir("folder")), "a full disk takes a directory"
    assert refused("a symbolic link", lambda: os.symlink("kept", "symlink")), "a full disk takes a symbolic link"
    # These may be refused as well, and not in another way.
    refused("a name", lambda: os.rename("kept", "kept-still"))
    refused("a name", lambda: os.rename("kept-still", "kept"))
    refused("a mode", lambda: os.chmod("kept", 0o640))
    refused("an attribute", lambda: os.setxattr("kept", "user.a", b"x"))
    refused("a sync", lambda: os.fsync(os.open("kept", os.O_RDONLY)))
    refused("a sync", lambda: os.fsync(os.open(".", os.O_RDONLY)))
assert open("kept", "rb").read() == kept
assert len(os.listdir("many")) == 200
for name in os.listdir("many"):
    assert open(f"many/{name}", "rb").read() == name.encode() * 3000, name
# Removing is what makes room.
for name in os.listdir("many")[:100]:
    os.remove(f"many/{name}")
os.truncate("more", 0) if os.path.exists("more") else None
assert len(os.listdir("many")) == 100
