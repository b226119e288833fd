"""Positions in a large directory are taken and returned to, while names come and go and versions are published.

    positions.py DIRECTORY NAMES

Names that are there throughout come exactly once, in one order, from wherever a stream is taken up.
"""
import ctypes, os, random, subprocess, sys
path, count = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)


class Entry(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("length", ctypes.c_ushort),
                ("kind", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]


libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype, libc.readdir.argtypes = ctypes.POINTER(Entry), [ctypes.c_void_p]
libc.telldir.restype, libc.telldir.argtypes = ctypes.c_long, [ctypes.c_void_p]
libc.seekdir.restype, libc.seekdir.argtypes = None, [ctypes.c_void_p, ctypes.c_long]
libc.rewinddir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]


def read(stream):
    ctypes.set_errno(0)
    entry = libc.readdir(stream)
    assert entry or not ctypes.get_errno(), os.strerror(ctypes.get_errno())
    return entry.contents.name if entry else None


def stays(stream, most=None):
    """The next names that are there throughout."""
    names = []
    while len(names) != most and (name := read(stream)) is not None:
        if name.startswith(b"stays"):
            names.append(name)
    return names


dice = random.Random(20000)
os.mkdir(path)
here = os.open(path, os.O_RDONLY)
made = [b"stays-%05d" % at for at in range(count)]
gone = [b"goes-%05d" % at for at in range(count // 4)]
for name in dice.sample(made + gone, len(made) + len(gone)):
    os.mknod(name, 0o100600, dir_fd=here)
coming = 0


def change():
    """A name goes, or moves, and one comes."""
    global coming
    if gone:
        name = gone.pop(dice.randrange(len(gone)))
        if coming % 3:
            os.unlink(name, dir_fd=here)
        else:
            os.rename(name, b"goes-anew-%05d" % coming, src_dir_fd=here, dst_dir_fd=here)
    # All over the directory.
    os.mknod(b"%c-%05d" % (dice.choice(b"aghrstuz"), coming), 0o100600, dir_fd=here)
    coming += 1


def publish():
    subprocess.run([os.environ["JAXFS"], "sync", "."], check=True, stdout=subprocess.DEVNULL)


stream = libc.opendir(os.fsencode(path))
before = []  # (a position, the name behind it)
while True:
    position = libc.telldir(stream)
    if dice.randrange(50) == 0:
        libc.seekdir(stream, position)  # to where it is
    if (name := read(stream)) is None:
        break
    before.append((position, name))
    if len(before) % 9 == 0:
        change()
    if len(before) % 8000 == 0:
        publish()
order = [name for _, name in before if name.startswith(b"stays")]
assert sorted(order) == made, "not once each"
assert len({name for _, name in before}) == len(before), "a name twice"
number = {name: at for at, name in enumerate(order)}
behind = [(position, number[name]) for position, name in before if name in number]
for turn in range(400):
    position, at = dice.choice(behind)
    libc.seekdir(stream, position)
    assert stays(stream, 30) == order[at : at + 30], (turn, position)
    change()
    if turn % 100 == 50:
        publish()
for position, at in behind[0], behind[count // 2], behind[-1], behind[count // 5]:
    libc.seekdir(stream, position)
    assert stays(stream) == order[at:], position
    end = libc.telldir(stream)
libc.seekdir(stream, end)
assert stays(stream) == []
# From the start, everything is as it is now.
libc.rewinddir(stream)
names = []
while (name := read(stream)) is not None:
    names.append(name)
assert sorted(names) == sorted([b".", b".."] + [os.fsencode(name) for name in os.listdir(path)])
libc.closedir(stream)
