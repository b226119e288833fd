//! Ordinary tools, as people use them.

use crate::world::World;

crate::claims! {
    Mount: [
        cp_mv_and_rm_do_what_they_say,
        a_directory_moves_with_all_below_it,
        file_locks_are_kept,
        find_and_du_see_the_whole_tree,
        programs_run_and_pipes_and_sockets_connect,
        work_of_many_while_it_is_published_ends_as_on_a_disk,
        a_deep_tree_is_made_moved_and_removed,
    ],
}

fn cp_mv_and_rm_do_what_they_say() {
    let world = World::mounted();
    world.sh(
        "mkdir -p src/deep; echo a > src/a; echo b > src/deep/b; ln -s a src/l; cp -a src copy; diff -r src copy; \
         mv copy moved; test ! -e copy; diff -r src moved; mv moved/a moved/deep/b; test \"$(cat moved/deep/b)\" = a; \
         test ! -e moved/a; cp --reflink=auto src/a src/c; rm -rf moved; test ! -e moved",
    );
    world.remount();
    assert_eq!(world.sh("find . | sort | tr '\\n' ' '"), ". ./src ./src/a ./src/c ./src/deep ./src/deep/b ./src/l ");
    // To and from another file system.
    world
        .sh("mv src \"$OUT/away\"; test ! -e src; mv \"$OUT/away\" back; test \"$(cat back/deep/b)\" = b; rm -rf back");
    world.remount();
    assert_eq!(world.sh("ls -A"), "");
}

fn a_directory_moves_with_all_below_it() {
    let world = World::mounted();
    world.sh("mkdir -p a/b/c x; echo deep > a/b/c/f");
    world.sync();
    let before = world.stored();
    world.sh("mv a/b x/b; test \"$(cat x/b/c/f)\" = deep; ! mv x x/b/c/ 2> /dev/null");
    world.remount();
    assert_eq!(world.sh("cat x/b/c/f; ls a; stat -c %h a x"), "deep\n2\n3\n");
    assert!(world.stored() - before < 64 << 10);
}

fn file_locks_are_kept() {
    let world = World::mounted();
    world.python(
        "import fcntl, os, subprocess, sys\n\
         held = open('lock', 'w'); fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
         whole = open('whole', 'w'); fcntl.flock(whole, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
         code = 'import fcntl, sys\\nfor name, lock in ((\"lock\", fcntl.lockf), (\"whole\", fcntl.flock)):\\n'\\\n\
         \x20      '    try: lock(open(name, \"w\"), fcntl.LOCK_EX | fcntl.LOCK_NB)\\n'\\\n\
         \x20      '    except OSError: continue\\n    sys.exit(name)'\n\
         assert subprocess.run([sys.executable, '-c', code]).returncode == 0\n\
         held.close(); whole.close()\n\
         assert subprocess.run([sys.executable, '-c', code], stderr=subprocess.DEVNULL).returncode != 0",
    );
}

fn find_and_du_see_the_whole_tree() {
    let world = World::mounted();
    world.sh("mkdir -p a/b/c/d/e; for d in a a/b a/b/c a/b/c/d; do head -c 100000 /dev/zero > $d/f; done");
    assert_eq!(
        world.sh("find . -type f | wc -l; find . -type d | wc -l; du -s --apparent-size -B1 a/b/c/d/e").lines().count(),
        3
    );
    assert_eq!(world.sh("find . -name f | wc -l").trim(), "4");
    assert_eq!(world.sh("find . -type d | wc -l").trim(), "6");
    world.sh("df . > /dev/null; stat -f . > /dev/null");
}

fn programs_run_and_pipes_and_sockets_connect() {
    let world = World::mounted();
    world.sh("cp \"$(command -v cat)\" mine; echo through | ./mine > out; test \"$(cat out)\" = through; \
         printf '#!/bin/sh\\necho script $1\\n' > s; chmod 755 s; test \"$(./s x)\" = 'script x'; \
         mkfifo pipe; (echo hello > pipe &); test \"$(cat pipe)\" = hello");
    world.python(
        "import socket, tempfile\n\
         a = socket.socket(socket.AF_UNIX); a.bind('sock'); a.listen()\n\
         b = socket.socket(socket.AF_UNIX); b.connect('sock'); b.send(b'x'); assert a.accept()[0].recv(1) == b'x'\n\
         t = tempfile.TemporaryFile(dir='.'); t.write(b'y' * 9999); t.seek(0); assert len(t.read()) == 9999",
    );
    world.remount();
    assert_eq!(world.sh("echo again | ./mine"), "again\n");
}

/// Deterministic work of one of several at once, in a folder of its own.
const WORK: &str = "import os, random, sys\n\
    dice = random.Random(int(sys.argv[2])); os.chdir(sys.argv[1]); os.mkdir(sys.argv[2]); os.chdir(sys.argv[2])\n\
    os.mkdir('d'); name = lambda: dice.choice(['', 'd/']) + 'f' + str(dice.randrange(12))\n\
    for step in range(1500):\n\
    \x20   a, b, what = name(), name(), dice.randrange(10)\n\
    \x20   data = dice.randbytes(dice.choice([3, 300, 5000, 140000]))\n\
    \x20   try:\n\
    \x20       if what < 3:\n\
    \x20           fd = os.open(a, os.O_CREAT | os.O_WRONLY); os.pwrite(fd, data, dice.randrange(300000)); os.close(fd)\n\
    \x20       elif what == 3: os.truncate(a, dice.randrange(400000))\n\
    \x20       elif what == 4: os.rename(a, b)\n\
    \x20       elif what == 5: os.unlink(a)\n\
    \x20       elif what == 6: os.link(a, b)\n\
    \x20       elif what == 7: open(a, 'ab').write(data)\n\
    \x20       elif what == 8: os.rename('d', 'e'); os.rename('e', 'd')\n\
    \x20       else: open(a, 'wb').write(data)\n\
    \x20   except (FileNotFoundError, FileExistsError): pass";

fn work_of_many_while_it_is_published_ends_as_on_a_disk() {
    let mut world = World::mounted();
    world.set("WORK", WORK);
    world.sh(
        "mkdir \"$OUT/disk\"; workers=; for at in 1 2 3 4; do python3 -c \"$WORK\" \"$OUT/disk\" $at & workers+=\" $!\"; done; \
         wait $workers",
    );
    world.sh("workers=; for at in 1 2 3 4; do python3 -c \"$WORK\" \"$PWD\" $at & workers+=\" $!\"; done; \
         (while sleep 0.05; do \"$JAXFS\" sync; done > /dev/null) & syncs=$!; wait $workers; kill $syncs");
    let same = "diff -r \"$OUT/disk\" .; for t in \"$OUT/disk\" .; do (cd \"$t\"; find . -type f -printf '%p %s %n\\n' | sort); done | sort | uniq -u";
    assert_eq!(world.sh(same), "");
    world.remount();
    assert_eq!(world.sh(same), "");
    world.jaxfs(&["verify"]).ok();
}

fn a_deep_tree_is_made_moved_and_removed() {
    let world = World::mounted();
    world.python(
        "import os\n\
         top = os.getcwd()\n\
         for at in range(400): os.mkdir('level'); os.chdir('level')\n\
         open('bottom', 'w').write('deep'); os.chdir(top); os.rename('level', 'moved')",
    );
    world.remount();
    world.python(
        "import os\n\
         os.chdir('moved')\n\
         for at in range(399): os.chdir('level')\n\
         assert open('bottom').read() == 'deep'",
    );
    world.jaxfs(&["verify"]).ok();
    world.sh("rm -rf moved");
    world.remount();
    assert_eq!(world.sh("ls -A"), "");
}
