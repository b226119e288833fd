"""A tree of everything, and what can still be read of it.

rot.py make ROOT              makes the tree
rot.py edit ROOT NODE         changes some of it, syncs that, and kills the node
rot.py note ROOT NOTES        writes down what is there
rot.py check ROOT NOTES ..    compares what is there with one of the notes: what can be read has to be right; prints a
                              line for each path that can not be read, with the offsets of the pieces
"""

import errno
import hashlib
import json
import os
import random
import signal
import stat
import sys

PIECE = 32 << 10
WHAT, ROOT, *NOTES = sys.argv[1:]


def bytes_of(name, size):
    return random.Random(name).randbytes(size)


def put(name, data, sync=False):
    path = os.path.join(ROOT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb", buffering=0) as out:
        out.write(data)
        if sync:
            os.fsync(out.fileno())


def make():
    for folder in "abc":
        put(f"{folder}/inline", bytes_of(folder, 100))
        put(f"{folder}/some", bytes_of(f"{folder} some", 100_000))
        put(f"{folder}/deep/er/large", bytes_of(f"{folder} large", 500_000))
    for at in range(700):
        put(f"many/a-name-that-takes-some-room-{at:04}", bytes_of(f"many {at}", 60))
    os.symlink("a/some", f"{ROOT}/symlink")
    os.link(f"{ROOT}/a/some", f"{ROOT}/b/link")
    os.link(f"{ROOT}/c/inline", f"{ROOT}/link")
    os.setxattr(f"{ROOT}/a/inline", "user.large", bytes_of("xattr", 3000))
    os.chmod(f"{ROOT}/b/inline", 0o600)


def edit():
    # Open until the node is dead: so long it makes no version of its own accord.
    held = os.open(f"{ROOT}/held", os.O_WRONLY | os.O_CREAT)
    os.write(held, b"held")
    os.fsync(held)
    put("a/inline", bytes_of("edited", 90), sync=True)
    put("new/safe", bytes_of("safe", 70_000), sync=True)
    with open(f"{ROOT}/c/deep/er/large", "r+b", buffering=0) as out:
        out.seek(200_000)
        out.write(bytes_of("amid", 9000))
        os.fsync(out.fileno())
    os.rename(f"{ROOT}/many/a-name-that-takes-some-room-0001", f"{ROOT}/moved")
    os.remove(f"{ROOT}/many/a-name-that-takes-some-room-0002")
    here = os.open(ROOT, os.O_RDONLY)
    os.fsync(here)
    os.kill(int(NOTES[0]), signal.SIGKILL)


def try_to(read, *what):
    """What can be read, or nothing if that is an I/O error; another error is none that may come."""
    try:
        return read(*what)
    except OSError as error:
        assert error.errno == errno.EIO, f"{what}: {error}"
        return None


def pieces(path, size):
    found = []
    file = try_to(os.open, path, os.O_RDONLY)
    if file is None:
        return None
    for offset in range(0, size, PIECE):
        data = try_to(os.pread, file, PIECE, offset)
        found.append(None if data is None else hashlib.blake2b(data, digest_size=12).hexdigest())
    os.close(file)
    return found


def xattrs(path):
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        found[name] = os.getxattr(path, name, follow_symlinks=False).hex()[:64]
    return found


def seen(path, found, name=""):
    """All of a tree; nothing stands for what can not be read."""
    facts = try_to(os.lstat, path)
    if facts is None:
        found[name] = None
        return
    here = {"mode": facts.st_mode, "links": facts.st_nlink, "xattrs": try_to(xattrs, path)}
    found[name] = here
    if stat.S_ISREG(facts.st_mode):
        here["size"] = facts.st_size
        here["pieces"] = pieces(path, facts.st_size)
    elif stat.S_ISLNK(facts.st_mode):
        here["target"] = try_to(os.readlink, path)
    else:
        here["names"] = names = try_to(lambda: sorted(os.listdir(path)))
        for below in names or []:
            seen(os.path.join(path, below), found, f"{name}/{below}" if name else below)


def is_between(key, value, noted):
    """Whether something is as in one of the notes, or as at a moment between them."""
    values = [one[key] for one in noted if key in one]
    if key == "names":
        return set.intersection(*map(set, values)) <= set(value) <= set.union(*map(set, values))
    if key == "links":
        return min(values) <= value <= max(values)
    return value in values


def compare(name, here, noted):
    """What can not be read; the rest has to be right."""
    if here is None:
        return "all"
    hurt = []
    for key, value in here.items():
        if value is None:
            hurt.append(key)
        elif key == "pieces":
            whole = [one[key] for one in noted if len(one.get(key) or []) == len(value)]
            right = [one for one in whole if all(piece in (None, good) for piece, good in zip(value, one))]
            assert right, f"{name}: {value} is none of {whole}"
            hurt += [str(at * PIECE) for at, piece in enumerate(value) if piece is None]
        else:
            assert is_between(key, value, noted), f"{name}: {key} is {value}, in none of {noted}"
    return " ".join(hurt)


def check():
    found, notes = {}, [json.load(open(path)) for path in NOTES]
    seen(ROOT, found)
    for name, here in found.items():
        noted = [one[name] for one in notes if name in one]
        assert noted, f"{name} was never there"
        hurt = compare(name, here, noted)
        if hurt:
            print(f"{name}: {hurt}")


def note():
    found = {}
    seen(ROOT, found)
    json.dump(found, open(NOTES[0], "w"))


{"make": make, "edit": edit, "note": note, "check": check}[WHAT]()
