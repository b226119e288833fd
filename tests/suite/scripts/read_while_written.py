"""Readers of small pieces at random beside a writer that comes and goes, by write and by mmap: nobody sees old bytes.

    read_while_written.py FILE SECONDS

What a small read opens is handed to the kernel in larger pieces, which must never cover what was written since.
"""
import os, random, threading, mmap, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
PAGE, PAGES = 4096, 1024
r = random.Random(5)
model = [0]*PAGES
with open(path, "wb") as f: f.write(b"\0"*(PAGE*PAGES))
stop = time.monotonic()+seconds
low = [0]*PAGES   # what a read that begins now must at least show
bad = []
def reader(seed):
    r = random.Random(seed)
    while time.monotonic() < stop and not bad:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(50):
            p = r.randrange(PAGES); least = low[p]
            data = os.pread(fd, PAGE, p*PAGE)
            got = int.from_bytes(data[:8], "little")
            if len(data) == PAGE and (got < least or data[:8]*512 != data):
                bad.append((p, least, got, data[:8]*512 == data))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
threads = [threading.Thread(target=reader, args=(i,)) for i in range(3)]
[t.start() for t in threads]
version = 0; rounds = 0
while time.monotonic() < stop and not bad:
    fd = os.open(path, os.O_RDWR)
    version += 1; rounds += 1
    pages = [r.randrange(PAGES) for _ in range(r.randrange(1, 20))]
    if r.random() < 0.5:
        for p in pages:
            os.pwrite(fd, version.to_bytes(8, "little")*512, p*PAGE); low[p] = version
    else:
        m = mmap.mmap(fd, PAGE*PAGES)
        for p in pages:
            m[p*PAGE:(p+1)*PAGE] = version.to_bytes(8, "little")*512; low[p] = version
        m.close()
    os.close(fd)
    if r.random() < 0.3:
        fd = os.open(path, os.O_RDWR); os.fsync(fd); os.close(fd)
    if r.random() < 0.3: time.sleep(0.02)
    for p in pages:
        with open(path, "rb", buffering=0) as f:
            got = int.from_bytes(os.pread(f.fileno(), 8, p*PAGE), "little")
            if got != version: bad.append(("writer", p, version, got))
[t.join() for t in threads]
print("rounds", rounds, "bad", bad[:3])
sys.exit(1 if bad else 0)
