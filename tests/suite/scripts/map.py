"""A key-value store in a memory map, LMDB: one writes, several read, and each reader sees one state at a time.

    map.py work GENERATIONS WRITEMAP
    map.py check GENERATIONS
    map.py promise WRITEMAP             writes without end, and to $OUT/promised after each commit
    map.py kept                         looks whether the last generation that was promised is there
"""
import hashlib, lmdb, multiprocessing, os, sys

KEYS, READERS = 150, 3
fork = multiprocessing.get_context("fork")

def connect(**options):
    return lmdb.open("store", map_size=64 << 20, max_readers=20, **options)

def value(generation, key):
    seed = hashlib.sha256(f"{generation} {key}".encode()).digest()
    return str(generation).encode() + b" " + (seed * 300)[: (generation * 31 + key * 97) % 9000]

def state(transaction):
    "The generation that is there; all of it is of that one, and nothing else is there."
    generation = int(transaction.get(b"generation", b"0"))
    pairs = dict(transaction.cursor())
    if generation:
        expected = {b"generation": str(generation).encode()}
        expected |= {b"%d" % key: value(generation, key) for key in range(KEYS) if (key + generation) % 5}
        assert pairs == expected, generation
    return generation

def read(last):
    store, seen = connect(), 0
    while seen < last:
        with store.begin() as transaction:
            now = state(transaction)
            assert now >= seen and state(transaction) == now
            seen = now

def write(last, writemap, done=lambda generation: None):
    store = connect(writemap=writemap)
    for generation in range(1, last + 1):
        for keep in [False, True] if generation % 4 == 0 else [True]:
            transaction = store.begin(write=True)
            for key in range(KEYS):
                if (key + generation) % 5: transaction.put(b"%d" % key, value(generation, key) if keep else b"wrong")
                else: transaction.delete(b"%d" % key)
            transaction.put(b"generation", str(generation).encode())
            transaction.commit() if keep else transaction.abort()
        done(generation)

def work(last, writemap):
    all = [fork.Process(target=read, args=(last,)) for _ in range(READERS)]
    all.append(fork.Process(target=write, args=(last, bool(writemap))))
    for one in all: one.start()
    for one in all: one.join()
    assert [one.exitcode for one in all] == [0] * len(all)

def check(last):
    store = connect()
    with store.begin() as transaction: assert state(transaction) == last
    # It is written to again.
    write(last + 1, False)
    with store.begin() as transaction: assert state(transaction) == last + 1

def promise(writemap):
    promised = open(os.environ["OUT"] + "/promised", "w")
    write(10**9, bool(writemap), lambda generation: (promised.write(f"{generation}\n"), promised.flush()))

def kept():
    promised = len(open(os.environ["OUT"] + "/promised").read().splitlines())
    store = connect()
    with store.begin() as transaction: assert state(transaction) in (promised, promised + 1)

verb, *rest = sys.argv[1:]
{"work": work, "check": check, "promise": promise, "kept": kept}[verb](*map(int, rest))
