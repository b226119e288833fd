"""A load that tells what it was promised, and a check that the promise was kept.

load.py run KIND ROOT ACKS     works below ROOT until the mount is gone; what was made safe is appended to ACKS
load.py check KIND ROOT ACKS   compares what is there with ACKS; the last line says how much that was
"""

import os
import random
import sqlite3
import struct
import sys
import zlib

BLOCK = 4096
BLOCKS = 256


class Acks:
    """Numbers that were promised, beside the mount. Whole lines only count."""

    def __init__(self, path):
        self.out = open(path, "ab", buffering=0)

    def add(self, *numbers):
        self.out.write(b" ".join(b"%d" % number for number in numbers) + b"\n")


def acked(path):
    if not os.path.exists(path):
        return []
    whole = open(path, "rb").read().rpartition(b"\n")[0]
    return [tuple(map(int, line.split())) for line in whole.splitlines()]


def words(number, most=700):
    """Text that follows from a number alone."""
    seeded = random.Random(number)
    return bytes(seeded.choices(b"abcdefghijklmnopqrstuvwxyz", k=seeded.randrange(1, most)))


def sync_dir(path):
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


# Lines of a log, each synced.


def log_line(number):
    return b"%08d %s\n" % (number, words(number))


def log_lines(root):
    """The lines that are there; the last may be torn off only where nobody was told of it."""
    path = os.path.join(root, "log")
    data = open(path, "rb").read() if os.path.exists(path) else b""
    whole, _, rest = data.rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    for number, line in enumerate(lines):
        assert line + b"\n" == log_line(number), f"line {number} is {line[:40]!r}"
    assert log_line(len(lines)).startswith(rest), f"behind line {len(lines)}: {rest[:40]!r}"
    return len(lines), len(rest)


def run_append(root, acks):
    number, rest = log_lines(root)
    out = os.open(os.path.join(root, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    if rest:
        os.ftruncate(out, os.fstat(out).st_size - rest)
    while True:
        os.write(out, log_line(number))
        os.fsync(out)
        acks.add(number)
        number += 1


def check_append(root, promised):
    number, _ = log_lines(root)
    assert all(ack < number for (ack,) in promised), f"line {promised[-1]} was promised, and {number} are there"
    return len(promised)


# Files that replace each other, as editors save.


def run_save(root, acks):
    number = 1 + max((ack for (ack,) in acked(acks.out.name)), default=0)
    while True:
        name, temporary = os.path.join(root, f"save-{number % 7}"), os.path.join(root, "save.tmp")
        with open(temporary, "wb") as out:
            out.write(b"%d " % number + words(number, 90_000))
            out.flush()
            os.fsync(out.fileno())
        os.rename(temporary, name)
        sync_dir(root)
        acks.add(number)
        number += 1


def check_save(root, promised):
    last = {}
    for (number,) in promised:
        last[number % 7] = number
    for name, number in last.items():
        data = open(os.path.join(root, f"save-{name}"), "rb").read()
        found = int(data.split(b" ", 1)[0])
        assert found >= number and found % 7 == name, f"{name}: {number} was promised, {found} is there"
        assert data == b"%d " % found + words(found, 90_000), f"save {found} is not whole"
    return len(promised)


# Saves without any sync: the old or the new, and never a mixture or nothing.


def run_careless(root, acks):
    number = 1
    while True:
        name, temporary = os.path.join(root, f"careless-{number % 5}"), os.path.join(root, "careless.tmp")
        with open(temporary, "wb") as out:
            out.write(b"%d " % number + words(number, 20_000))
        os.rename(temporary, name)
        if number % 40 == 0:
            # Makes the names safe, and with them what they name.
            sync_dir(root)
        number += 1


def check_careless(root, promised):
    for name in range(5):
        path = os.path.join(root, f"careless-{name}")
        if os.path.exists(path):
            data = open(path, "rb").read()
            assert data, f"{path} is empty"
            number = int(data.split(b" ", 1)[0])
            assert data == b"%d " % number + words(number, 20_000), f"careless save {number} is a mixture"
    return 0


# Blocks of one file, written at random, each with its number, a version and a checksum.


def block(number, version):
    body = struct.pack("<QQ", number, version) + words(number * 1_000_003 + version, 400)
    body += bytes((version + at) % 251 for at in range(BLOCK - 4 - len(body)))
    return body + struct.pack("<I", zlib.crc32(body))


def versions(root):
    path = os.path.join(root, "blocks")
    found = [0] * BLOCKS
    data = open(path, "rb").read() if os.path.exists(path) else b""
    for number in range(BLOCKS):
        part = data[number * BLOCK : (number + 1) * BLOCK]
        if any(part):
            here, version = struct.unpack("<QQ", part[:16])
            assert here == number and part == block(number, version), f"block {number} is a mixture"
            found[number] = version
    return found


def run_blocks(root, acks):
    found = versions(root)
    out = os.open(os.path.join(root, "blocks"), os.O_RDWR | os.O_CREAT, 0o644)
    seeded = random.Random()
    while True:
        batch = []
        for _ in range(seeded.choice((1, 1, 1, 5))):
            number = seeded.randrange(BLOCKS)
            found[number] += 1
            os.pwrite(out, block(number, found[number]), number * BLOCK)
            batch.append(number)
        os.fdatasync(out)
        for number in batch:
            acks.add(number, found[number])


def check_blocks(root, promised):
    found = versions(root)
    for number, version in promised:
        assert found[number] >= version, f"block {number}: {version} was promised, {found[number]} is there"
    return len(promised)


# Rows of a database.


def database(root, mode):
    base = sqlite3.connect(os.path.join(root, f"{mode}.db"), timeout=30, isolation_level=None)
    base.execute(f"pragma journal_mode={mode}")
    # `full` does not sync the removal of the journal, which is what commits.
    base.execute("pragma synchronous=extra")
    base.execute("create table if not exists rows(number integer primary key, words blob)")
    return base


def run_rows(root, acks, mode):
    base = database(root, mode)
    number = base.execute("select coalesce(max(number), 0) from rows").fetchone()[0] + 1
    while True:
        base.execute("begin immediate")
        base.execute("insert into rows values (?, ?)", (number, words(number)))
        base.execute("commit")
        if mode == "delete":
            # The removal of the journal is what commits, and sqlite overlooks that it could not open the directory to sync it.
            sync_dir(root)
        acks.add(number)
        number += 1


def check_rows(root, promised, mode):
    base = database(root, mode)
    assert base.execute("pragma integrity_check").fetchone()[0] == "ok"
    rows = dict(base.execute("select number, words from rows"))
    for number, found in rows.items():
        assert found == words(number), f"row {number}"
    assert sorted(rows) == list(range(1, len(rows) + 1)), "rows are missing"
    assert all(number in rows for (number,) in promised), f"{promised[-1]} was promised, {len(rows)} rows are there"
    return len(promised)


# Trees that are made, moved and removed, and never synced: noise for all others.


def run_trees(root, acks):
    import shutil

    number = 0
    while True:
        tree = os.path.join(root, f"tree-{number % 3}")
        shutil.rmtree(tree, ignore_errors=False) if os.path.exists(tree) else None
        for at in range(40):
            folder = os.path.join(tree, f"{at % 5}", f"{at % 3}")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"{at}"), "wb") as out:
                out.write(words(at) * 30)
        os.link(os.path.join(tree, "0", "0", "0"), os.path.join(tree, "link"))
        os.rename(os.path.join(tree, "1"), os.path.join(tree, "moved"))
        number += 1


def check_trees(root, promised):
    for folder, _, names in os.walk(root):
        for name in names:
            if name.isdigit() or name == "link":
                data = open(os.path.join(folder, name), "rb").read()
                whole = words(int(name) if name.isdigit() else 0) * 30
                assert data in (b"", whole), f"{folder}/{name} is a mixture of {len(data)} bytes"
    return 0


KINDS = {
    "append": (run_append, check_append),
    "save": (run_save, check_save),
    "careless": (run_careless, check_careless),
    "blocks": (run_blocks, check_blocks),
    "wal": (lambda root, acks: run_rows(root, acks, "wal"), lambda root, promised: check_rows(root, promised, "wal")),
    "delete": (
        lambda root, acks: run_rows(root, acks, "delete"),
        lambda root, promised: check_rows(root, promised, "delete"),
    ),
    "trees": (run_trees, check_trees),
}


def main():
    what, kind, root, path = sys.argv[1:]
    run, check = KINDS[kind]
    if what == "check":
        promised = acked(path)
        # A load that had not begun when the node died left no folder.
        assert os.path.isdir(root) or not promised, f"{root} is gone"
        print(check(root, promised) if os.path.isdir(root) else 0)
        return
    try:
        os.makedirs(root, exist_ok=True)
        run(root, Acks(path))
    except (OSError, sqlite3.Error) as error:
        # The mount is gone, as it should be some time; the check says whether too early.
        print(f"{kind}: {error}")


main()
