"""Makes a tree with one of everything that an archive can hold.

    tree.py DIR            all kinds; as root with owners, devices and modes that keep everyone out
    tree.py DIR plain      files, directories and links with names of ASCII, for what knows no more
"""
import os, random, sys

plain, root, dice = "plain" in sys.argv, os.geteuid() == 0, random.Random(11)
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])
CHUNK = 32 << 10

for folder in ["empty", "deep/er/and/deeper", "sizes", "links/a", "links/b", "many", "holes"]: os.makedirs(folder)
for size in [0, 1, 255, 256, 257, 4095, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77, 1_000_001]:
    open(f"sizes/{size}", "wb").write(dice.randbytes(size))
for at in range(150): open(f"many/{at:03}", "w").write(f"{at}\n" * dice.randrange(900))
open("deep/er/and/deeper/file", "w").write("deep")
os.link("sizes/257", "links/a/257"); os.link("sizes/257", "links/b/again")
os.link("many/007", "many/seven")
os.symlink("../sizes/4096", "links/file"); os.symlink("../deep", "links/dir"); os.symlink("nowhere", "links/dangling")
os.symlink("x" * 1500, "links/long")

for name, size, pieces in [("ends", 4 << 20, [0, (4 << 20) - 3]), ("middle", 2 << 20, [1_000_003]), ("all", 1 << 20, [])]:
    with open(f"holes/{name}", "wb") as file:
        file.truncate(size)
        for at in pieces: os.pwrite(file.fileno(), b"abc", at)

if not plain:
    os.mkfifo("fifo"); os.link("links/dangling", "links/dangling too")
    for name in [b"\xff\xfe not UTF-8", b"two\nlines", b" ", b"-rf", b"\\ \" ' * $(x)", "n".encode() * 255, "Übergröße 日本".encode()]:
        open(name, "wb").write(name); os.mkdir(b"deep/" + name)
    os.setxattr("sizes/0", "user.empty", b""); os.setxattr("sizes/1", "user.binary", bytes(range(256)))
    os.setxattr("sizes/256", "user.long", dice.randbytes(3000)); os.setxattr("deep", "user.of a directory", b"yes")
    for name in ["one", "two", "three"]: os.setxattr("sizes/257", f"user.{name}", name.encode())
os.chmod("sizes/255", 0o400); os.chmod("sizes/4095", 0o777); os.chmod("empty", 0o1770)
if root and not plain:
    os.mknod("character", 0o20600, os.makedev(1, 3)); os.mknod("block", 0o60640, os.makedev(259, 300_000))
    os.chmod("many/000", 0); os.chmod("deep/er", 0o2550)
    os.chown("sizes/4096", 1234, 5678); os.chmod("sizes/4096", 0o6755)
    os.chown("links/file", 70_000, 4_000_000_000, follow_symlinks=False); os.chown("empty", 1234, 0)
    os.setxattr("sizes/4095", "trusted.tag", b"\0")

# Times last, of a directory after all that is in it; long ago, so that none is that of unpacking; whole and even seconds
# for what knows no more.
for folder, folders, files in os.walk(os.fsencode("."), topdown=False):
    links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
    for name in files + links + [b"."]:
        time = 10**18 + dice.randrange(3 * 10**8) * 2 * 10**9 if plain else dice.randrange(-10**18, 16 * 10**17)
        os.utime(os.path.join(folder, name), ns=(time, time), follow_symlinks=False)
