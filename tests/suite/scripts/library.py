"""What Python's library keeps in files: made in one mount, looked at in the next.

    library.py make|check dbm|mail|zip|pickle
    library.py temporary
    library.py append PROCESSES LINES

Where it matters, several processes work at once.
"""
import dbm.dumb, hashlib, importlib, io, mailbox, mmap, multiprocessing, os, pickle, shelve, sys, tempfile, zipfile

fork = multiprocessing.get_context("fork")

def at_once(work, *arguments):
    all = [fork.Process(target=work, args=one) for one in zip(*arguments)]
    for one in all: one.start()
    for one in all: one.join()
    assert [one.exitcode for one in all] == [0] * len(all)

def data(*of):
    "Bytes that can be told again, of some length."
    seed = hashlib.sha256(repr(of).encode()).digest()
    return seed * (seed[0] * seed[1] // 300 + 1)

# dbm: shelves over every kind that there is. Each has its own idea of locks, maps and writing in place.

KINDS = ["dbm.dumb", "dbm.gnu", "dbm.ndbm"]

def shelf(kind, flag):
    module = importlib.import_module(kind)
    return shelve.Shelf(module.open(kind.replace(".", "-"), flag))

def expected(kind, rounds):
    return {str(key): [kind, key, data(kind, key % 13)[:900]] for key in range(rounds) if key % 4}

def make_dbm():
    for kind in KINDS:
        # Many times opened and closed, with some that go again.
        for start in range(0, 200, 25):
            with shelf(kind, "c") as store:
                for key in range(start, start + 25): store[str(key)] = [kind, key, data(kind, key % 13)[:900]]
                for key in range(start, start + 25, 4): store[str(key - key % 4)] = None
        with shelf(kind, "w") as store:
            for key in range(0, 200, 4): del store[str(key)]
        if kind == "dbm.gnu":
            with dbm.gnu.open("dbm-gnu", "w") as store: store.reorganize(); store.sync()

def check_dbm():
    for kind in KINDS:
        with shelf(kind, "r") as store: assert dict(store) == expected(kind, 200), kind
    gnu = importlib.import_module("dbm.gnu")
    with gnu.open("dbm-gnu", "w"):
        try: gnu.open("dbm-gnu", "w"); raise SystemExit("opened by two writers")
        except OSError: pass

# mail: mbox, where everybody locks one file, by fcntl and by a linked .lock; and Maildir, where nobody locks anything.

def letter(who, n):
    return b"From: %d@here\nSubject: %d\n\n%s\nFrom the body\n" % (who, n, data(who, n).hex().encode())

def deliver(who):
    box, folder = mailbox.mbox("mbox"), mailbox.Maildir("Maildir")
    for n in range(12):
        while True:
            try: box.lock(); break
            except mailbox.ExternalClashError: pass
        box.add(letter(who, n)); box.flush(); box.unlock()
        key = folder.add(letter(who, n))
        if n % 3 == 0:  # read: new -> cur, with a flag
            message = folder[key]; message.set_subdir("cur"); message.set_flags("S"); folder[key] = message

def make_mail():
    mailbox.mbox("mbox").close(); mailbox.Maildir("Maildir").close()
    at_once(deliver, range(4))
    box = mailbox.mbox("mbox"); box.lock()
    for key, message in box.items():
        if message["Subject"] == "5": box.remove(key)
    box.flush(); box.unlock()

def check_mail():
    wanted = lambda drop: sorted(letter(who, n).replace(b"\nFrom ", b"\n>From ") for who in range(4) for n in range(12) if n != drop)
    box, folder = mailbox.mbox("mbox"), mailbox.Maildir("Maildir")
    assert sorted(message.as_bytes() for message in box) == wanted(5)
    assert sorted(message.as_bytes().replace(b"\nFrom ", b"\n>From ") for message in folder) == wanted(None)
    assert len(os.listdir("Maildir/cur")) == 16 and len(os.listdir("Maildir/new")) == 32 and not os.listdir("Maildir/tmp")
    assert all(name.endswith(":2,S") for name in os.listdir("Maildir/cur"))
    assert sorted(os.listdir()) == ["Maildir", "mbox"]

# zip: written with a step back to each header, added to, and read through a map.

def make_zip():
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(40): archive.writestr(f"d/{n}", data("zip", n))
    with zipfile.ZipFile("a.zip", "a") as archive:
        for n in range(40, 60): archive.writestr(f"d/{n}", data("zip", n))
        with archive.open("large", "w") as large:
            for n in range(60): large.write(data("zip", n) * 9)

def check_zip():
    with open("a.zip", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as map:
        with zipfile.ZipFile(io.BytesIO(map)) as archive:
            assert archive.testzip() is None and len(archive.namelist()) == 61
            for n in range(60): assert archive.read(f"d/{n}") == data("zip", n)
            assert archive.read("large") == b"".join(data("zip", n) * 9 for n in range(60))

# pickle: several things one after another in one file, some through a map that grows.

def make_pickle():
    with open("pickles", "wb") as file:
        for n in range(300): pickle.dump({n: data("pickle", n)}, file, protocol=n % 6)
    with open("map", "w+b") as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096) as map:
            for n in range(1, 200):
                map.resize(4096 * n) if n % 10 == 0 else None
                map[len(map) - 100 : len(map) - 92] = n.to_bytes(8, "big")
                map.flush()

def check_pickle():
    with open("pickles", "rb") as file:
        for n in range(300): assert pickle.load(file) == {n: data("pickle", n)}
        assert not file.read()
    content = bytearray(190 * 4096)
    for n in range(1, 200):
        end = max(n // 10 * 10, 1) * 4096
        content[end - 100 : end - 92] = n.to_bytes(8, "big")
    assert open("map", "rb").read() == content

def temporary():
    tempfile.tempdir = os.getcwd()
    with tempfile.TemporaryFile() as nameless, tempfile.NamedTemporaryFile() as named, tempfile.SpooledTemporaryFile(max_size=100) as spooled:
        for file in [nameless, named, spooled]:
            file.write(data("temporary") * 50); file.seek(0)
            assert file.read() == data("temporary") * 50
        assert open(named.name, "rb").read() == data("temporary") * 50 and os.stat(named.name).st_mode == 0o100600
        assert os.fstat(nameless.fileno()).st_nlink == 0 and os.listdir() == [os.path.basename(named.name)]
    with tempfile.TemporaryDirectory() as folder:
        for n in range(100):
            fd, path = tempfile.mkstemp(dir=folder, suffix=".tmp"); os.write(fd, b"x"); os.close(fd)
        os.mkdir(folder + "/below"); assert len(os.listdir(folder)) == 101
    assert os.listdir() == []

# append: whatever its length, a line is in the log once and whole.

LENGTHS = [1, 60, 300, 4095, 4096, 33_000, 140_000]

def line(who, n):
    return f"{who} {n} ".encode() + bytes([65 + (who * 7 + n) % 26]) * LENGTHS[n % len(LENGTHS)] + b"\n"

def append_lines(who, lines):
    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for n in range(lines): assert os.write(log, line(who, n)) == len(line(who, n))

def append(processes, lines):
    at_once(append_lines, range(processes), [lines] * processes)
    seen = open("log", "rb").read().splitlines(keepends=True)
    assert sorted(seen) == sorted(line(who, n) for who in range(processes) for n in range(lines))
    for who in range(processes):  # each one's own lines are in order
        own = [int(one.split()[1]) for one in seen if int(one.split()[0]) == who]
        assert own == list(range(lines))
    print(hashlib.sha256(b"".join(seen)).hexdigest())

verb, *rest = sys.argv[1:]
if verb in ("make", "check"): verb += "_" + rest.pop()
globals()[verb](*map(int, rest))
