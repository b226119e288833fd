"""A bank in SQLite: processes that move money at once, and one that dies amid it.

    bank.py open MODE WRITERS MOVES     makes the bank and works in it
    bank.py die MODE                    leaves a transaction that is half on the disk
    bank.py promise MODE                makes moves without end, and writes to $OUT/promised after each commit
    bank.py check WRITERS MOVES         looks at every row
    bank.py kept                        looks whether every move that was promised is there

Whoever looks, at whatever moment, finds the same sum.
"""
import hashlib, multiprocessing, os, random, signal, sqlite3, sys

ACCOUNTS, EACH = 50, 1000
fork = multiprocessing.get_context("fork")

def connect():
    return sqlite3.connect("bank.db", isolation_level=None, timeout=100)

def slip(who, n):
    "What a move leaves in the log: up to some pages of bytes that can be told again."
    seed = hashlib.sha256(f"{who} {n}".encode()).digest()
    return (seed * 400)[:random.Random(n).choice([10, 500, 3000, 12000])]

def total(bank):
    return bank.execute("select sum(amount) from account").fetchone()[0]

def move(who, moves):
    bank, dice = connect(), random.Random(who)
    for n in range(moves):
        bank.execute("begin immediate")
        a, b, amount = dice.randrange(ACCOUNTS), dice.randrange(ACCOUNTS), dice.randrange(90)
        bank.execute("update account set amount = amount - ? where id = ?", (amount, a))
        if n % 7 == 3:  # thinks better of it
            bank.execute("rollback")
            bank.execute("begin immediate")
        else:
            bank.execute("update account set amount = amount + ? where id = ?", (amount, b))
        bank.execute("insert into log values (?, ?, ?)", (who, n, slip(who, n)))
        bank.execute("commit")

def look(done):
    bank = connect()
    while not done.is_set():
        assert total(bank) == ACCOUNTS * EACH

def make(mode):
    bank = connect()
    assert bank.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
    bank.execute("pragma synchronous=extra")  # the directory, too, when a journal is removed
    bank.execute("create table account (id integer primary key, amount integer)")
    bank.execute("create table log (who integer, n integer, slip blob, primary key (who, n))")
    bank.executemany("insert into account values (?, ?)", [(id, EACH) for id in range(ACCOUNTS)])
    return bank

def work(mode, writers, moves):
    make(mode).close()
    done = fork.Event()
    reader = fork.Process(target=look, args=(done,))
    all = [fork.Process(target=move, args=(who, moves)) for who in range(writers)]
    for one in [reader, *all]: one.start()
    for one in all: one.join()
    done.set()
    reader.join()
    assert [one.exitcode for one in [reader, *all]] == [0] * (writers + 1)

def die(mode):
    before = open("bank.db", "rb").read()
    if not os.fork():
        bank = connect()
        # A cache of few pages makes it write before it commits.
        bank.execute("pragma cache_size=4"); bank.execute(f"pragma journal_mode={mode}"); bank.execute("begin immediate")
        bank.execute("update account set amount = 7"); bank.execute("update log set slip = zeroblob(5000)")
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.wait()[1] == signal.SIGKILL
    wal = mode == "wal"
    assert wal or open("bank.db", "rb").read() != before
    assert os.path.getsize("bank.db-wal" if wal else "bank.db-journal") > 100_000

def promise(mode):
    bank, dice, promised = make(mode), random.Random(0), open(os.environ["OUT"] + "/promised", "w")
    for n in range(10**9):
        bank.execute("begin immediate")
        a, b, amount = dice.randrange(ACCOUNTS), dice.randrange(ACCOUNTS), dice.randrange(90)
        bank.execute("update account set amount = amount - ? where id = ?", (amount, a))
        bank.execute("update account set amount = amount + ? where id = ?", (amount, b))
        bank.execute("insert into log values (0, ?, ?)", (n, slip(0, n)))
        bank.execute("commit")
        promised.write(f"{n}\n"); promised.flush()

def kept():
    promised = len(open(os.environ["OUT"] + "/promised").read().splitlines())
    bank = connect()
    assert bank.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert total(bank) == ACCOUNTS * EACH
    log = bank.execute("select * from log order by n").fetchall()
    # One more may be on the disk than it had time to promise.
    assert len(log) in (promised, promised + 1), (len(log), promised)
    assert log == [(0, n, slip(0, n)) for n in range(len(log))]

def check(writers, moves):
    bank = connect()
    assert bank.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert total(bank) == ACCOUNTS * EACH
    expected = [(who, n, slip(who, n)) for who in range(writers) for n in range(moves)]
    assert bank.execute("select * from log order by who, n").fetchall() == expected
    # Every amount follows from the log of dice.
    amounts = [EACH] * ACCOUNTS
    for who in range(writers):
        dice = random.Random(who)
        for n in range(moves):
            a, b, amount = dice.randrange(ACCOUNTS), dice.randrange(ACCOUNTS), dice.randrange(90)
            if n % 7 != 3: amounts[a] -= amount; amounts[b] += amount
    assert [amount for amount, in bank.execute("select amount from account order by id")] == amounts

verb, *rest = sys.argv[1:]
{"open": work, "die": die, "promise": promise, "check": check, "kept": kept}[verb](*[int(one) if one.isdigit() else one for one in rest])
