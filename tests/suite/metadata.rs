//! What a bucket keeps: made in one mount, looked at in the next.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use crate::walk::{describe, same, xattrs};
use crate::world::World;

crate::claims! {
    Mount: [
        content_survives,
        names_of_any_bytes_survive,
        modes_survive,
        times_survive_to_the_nanosecond,
        symlinks_survive,
        hard_links_survive_across_directories,
        extended_attributes_survive,
        fifos_and_sockets_survive,
        empty_directories_survive,
        holes_survive,
        a_tree_of_five_thousand_files_is_the_same_after_cp,
        a_tree_of_five_thousand_files_is_the_same_after_tar,
        a_tree_of_five_thousand_files_is_the_same_after_rsync,
    ],
    Root: [
        owners_survive,
        device_nodes_survive,
        privileged_attributes_survive,
    ],
}

/// Makes something in a mount, and compares all that can be seen of it with what the next mount shows.
#[track_caller]
fn survives(make: impl FnOnce(&World)) -> World {
    let world = World::mounted();
    make(&world);
    let before = describe(world.dir());
    world.remount();
    same(&before, &describe(world.dir()));
    world
}

fn content_survives() {
    const CHUNK: usize = 32 << 10;
    let sizes = [0, 1, 255, 256, 257, 4095, 4096, 65_537, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, 20 * CHUNK + 7];
    let bytes = |size: usize| (0..size).map(|at| (at * 7 + at / 251) as u8).collect::<Vec<_>>();
    let world = survives(|world| {
        for size in sizes {
            fs::write(world.at(size.to_string()), bytes(size)).unwrap();
        }
    });
    for size in sizes {
        assert!(fs::read(world.at(size.to_string())).unwrap() == bytes(size), "{size} bytes");
    }
}

fn names_of_any_bytes_survive() {
    let long = "n".repeat(255);
    let names: [&[u8]; 9] = [
        "Übergröße 💾 日本語".as_bytes(),
        "e\u{301}".as_bytes(),
        "\u{e9}".as_bytes(), // the same letter in one code point is another name
        b"two\nlines",
        b"\xff\xfe\x80 not UTF-8",
        b"-rf",
        b" ",
        b"\\ \" ' * ? $(x)",
        long.as_bytes(),
    ];
    let world = survives(|world| {
        for name in names {
            fs::write(world.at(OsStr::from_bytes(name)), name).unwrap();
            let folder = world.at("folder").join(OsStr::from_bytes(name));
            fs::create_dir_all(folder).unwrap();
        }
    });
    for name in names {
        assert_eq!(fs::read(world.at(OsStr::from_bytes(name))).unwrap(), name);
    }
}

fn modes_survive() {
    let world = survives(|world| {
        for mode in [0o000, 0o400, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1666] {
            let (file, dir) = (world.at(format!("f{mode:o}")), world.at(format!("d{mode:o}")));
            fs::write(&file, b"").unwrap();
            fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            if mode & 0o500 == 0o500 {
                fs::create_dir(&dir).unwrap();
                fs::set_permissions(&dir, PermissionsExt::from_mode(mode | 0o1000)).unwrap();
            }
        }
        if !rustix::process::geteuid().is_root() {
            fs::remove_file(world.at("f0")).unwrap(); // could not be read
        }
    });
    assert_eq!(fs::metadata(world.at("f6711")).unwrap().mode() & 0o7777, 0o6711);
    assert_eq!(fs::metadata(world.at("d1755")).err().map(|error| error.kind()), Some(std::io::ErrorKind::NotFound));
    assert_eq!(fs::metadata(world.at("d755")).unwrap().mode() & 0o7777, 0o1755);
}

fn owners_survive() {
    let world = survives(|world| {
        world.sh(
            "touch a b; mkdir d; ln -s a l; chown 12345:54321 a; chown 4294967294:7 b; chown 1:2 d; chown -h 3:4 l",
        );
    });
    let owner = |name: &str| fs::symlink_metadata(world.at(name)).map(|meta| (meta.uid(), meta.gid())).unwrap();
    assert_eq!(["a", "b", "d", "l"].map(owner), [(12345, 54321), (4_294_967_294, 7), (1, 2), (3, 4)]);
}

fn times_survive_to_the_nanosecond() {
    let world = survives(|world| {
        world.python(
            "import os\n\
             for name, ns in [('past', -86400123456789), ('half', -1), ('epoch', 0), ('one', 1),\n\
                              ('now', 1700000000123456789), ('far', 4102444800000000001), ('y1901', -2177452800000000007)]:\n\
             \x20   open(name, 'w').close(); os.utime(name, ns=(ns + 3, ns))\n\
             os.mkdir('dir'); os.utime('dir', ns=(5, -1500000001))\n\
             os.symlink('x', 'link'); os.utime('link', ns=(9, 11), follow_symlinks=False)",
        );
    });
    let time = |name: &str| {
        let meta = fs::symlink_metadata(world.at(name)).unwrap();
        (meta.mtime() * 1_000_000_000 + meta.mtime_nsec(), meta.atime() * 1_000_000_000 + meta.atime_nsec())
    };
    assert_eq!(time("past"), (-86_400_123_456_789, -86_400_123_456_786));
    assert_eq!(time("half"), (-1, 2));
    assert_eq!(time("epoch"), (0, 3));
    assert_eq!(time("now").0, 1_700_000_000_123_456_789);
    assert_eq!(time("far").0, 4_102_444_800_000_000_001);
    assert_eq!(time("y1901").0, -2_177_452_800_000_000_007);
    assert_eq!(time("dir"), (-1_500_000_001, 5));
    assert_eq!(time("link"), (11, 9));
}

fn symlinks_survive() {
    let long = "x/".repeat(2000);
    let world = survives(|world| {
        fs::write(world.at("file"), b"aimed at").unwrap();
        symlink("file", world.at("short")).unwrap();
        symlink("nowhere/at all", world.at("dangling")).unwrap();
        symlink(OsStr::from_bytes(b"\xff\n"), world.at("bytes")).unwrap();
        symlink(&long, world.at("long")).unwrap();
    });
    assert_eq!(fs::read(world.at("short")).unwrap(), b"aimed at");
    assert_eq!(fs::read_link(world.at("long")).unwrap().as_os_str(), OsStr::new(&long));
}

fn hard_links_survive_across_directories() {
    let world = survives(|world| {
        world.sh("mkdir a b; echo one > a/x; ln a/x b/y; ln b/y z; echo alone > q; ln q r; rm q");
    });
    let meta = |name: &str| fs::metadata(world.at(name)).unwrap();
    assert_eq!(["a/x", "b/y", "z"].map(|name| meta(name).nlink()), [3; 3]);
    assert_eq!(meta("a/x").ino(), meta("z").ino());
    assert_eq!(meta("a/x").ino(), meta("b/y").ino());
    assert_eq!(meta("r").nlink(), 1);
    world.sh("echo two >> z; chmod 640 b/y");
    assert_eq!(fs::read(world.at("a/x")).unwrap(), b"one\ntwo\n");
    world.remount();
    assert_eq!(fs::read(world.at("b/y")).unwrap(), b"one\ntwo\n");
    assert_eq!(fs::metadata(world.at("a/x")).unwrap().mode() & 0o777, 0o640);
    world.sh("rm a/x z");
    world.remount();
    assert_eq!(fs::metadata(world.at("b/y")).unwrap().nlink(), 1);
    world.jaxfs(&["verify"]).ok();
}

fn extended_attributes_survive() {
    let world = survives(|world| {
        world.sh("touch f; mkdir d; setfattr -n user.text -v hello f; setfattr -n user.empty f; \
             setfattr -n user.bytes -v 0x00ff0a f; setfattr -n user.d -v on d; setfattr -n user.gone -v x f; \
             setfattr -x user.gone f");
        let value = vec![0x5a; 8 << 10];
        rustix::fs::setxattr(world.at("f"), "user.large", &value, rustix::fs::XattrFlags::CREATE).unwrap();
    });
    let found = xattrs(&world.at("f"));
    assert_eq!(found[&b"user.text"[..]], b"hello");
    assert_eq!(found[&b"user.bytes"[..]], [0, 0xff, 0x0a]);
    assert_eq!(found[&b"user.empty"[..]], b"");
    assert_eq!(found[&b"user.large"[..]].len(), 8 << 10);
    assert_eq!(found.len(), 4);
}

fn privileged_attributes_survive() {
    let world = survives(|world| {
        world.sh("touch f; setfattr -n trusted.t -v 1 f; setfattr -n security.s -v 2 f");
    });
    assert_eq!(world.sh("getfattr --only-values -n trusted.t f"), "1");
    assert_eq!(world.sh("getfattr --only-values -n security.s f"), "2");
}

fn fifos_and_sockets_survive() {
    survives(|world| {
        world.sh("mkfifo -m 640 pipe");
        UnixListener::bind(world.at("sock")).unwrap();
    });
}

fn device_nodes_survive() {
    let world = survives(|world| {
        world.sh("mknod -m 600 null c 1 3; mknod disk b 259 70000");
    });
    assert_eq!(world.sh("stat -c %F:%t:%T null disk"), "character special file:1:3\nblock special file:103:11170\n");
}

fn empty_directories_survive() {
    let world = survives(|world| {
        world.sh("mkdir -p a/b/c/d e; mkdir full; touch full/x; rm full/x");
    });
    assert_eq!(fs::read_dir(world.at("a/b/c/d")).unwrap().count(), 0);
    assert_eq!(fs::metadata(world.at("a")).unwrap().nlink(), 3);
    assert_eq!(fs::metadata(world.at("full")).unwrap().nlink(), 2);
}

fn holes_survive() {
    let world = survives(|world| {
        world.sh("truncate -s 64M hole; printf end | dd of=hole bs=1 seek=50000000 conv=notrunc status=none");
    });
    world.sh("truncate -s 1T huge");
    world.remount();
    let meta = fs::metadata(world.at("hole")).unwrap();
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    assert_eq!(fs::metadata(world.at("huge")).unwrap().size(), 1 << 40);
    assert!(world.stored() < 1 << 20);
    assert_eq!(world.sh("dd if=hole bs=1 skip=50000000 count=3 status=none"), "end");
}

/// Makes `$OUT/tree`: 50 directories of 100 files with links, times, modes, attributes and sizes of all kinds.
pub(crate) fn make_tree(world: &World) {
    world.python(
        "import os, random\n\
         out = os.environ['OUT'] + '/tree'\n\
         os.mkdir(out)\n\
         dice = random.Random(5000)\n\
         for d in range(50):\n\
         \x20   folder = f'{out}/dir {d}/sub' if d % 3 else f'{out}/dir {d}'\n\
         \x20   os.makedirs(folder)\n\
         \x20   for f in range(100):\n\
         \x20       name = f'{folder}/file-{f:03}.txt'\n\
         \x20       if f % 25 == 7: os.symlink(f'file-{f - 1:03}.txt', name); continue\n\
         \x20       if f % 25 == 9: os.link(f'{folder}/file-{f - 1:03}.txt', name); continue\n\
         \x20       size = dice.choice([0, 10, 200, 3000, 3000, 9000]) if f else 300000\n\
         \x20       with open(name, 'wb') as file: file.write(dice.randbytes(size))\n\
         \x20       if f % 25 == 3: os.setxattr(name, 'user.number', str(f).encode())\n\
         \x20       os.chmod(name, dice.choice([0o644, 0o600, 0o755]))\n\
         \x20       os.utime(name, ns=(10**18 + f, dice.randrange(2 * 10**18)))\n\
         \x20   os.utime(folder, ns=(1, 12345678901 * (d + 1)))\n\
         \x20   os.mkfifo(f'{out}/pipe {d}')",
    );
}

/// Copies the tree of 5,000 into the mount as `tree`, and compares it in the next mount.
#[track_caller]
fn tree_is_the_same_after(copy: &str) {
    let world = World::mounted();
    make_tree(&world);
    world.sh(copy);
    world.remount();
    assert_eq!(world.sh("diff -r --no-dereference \"$OUT/tree\" tree 2>&1 | grep -v 'is a fifo while' || true"), "");
    assert_eq!(world.sh("rsync -aHAXn --delete --itemize-changes \"$OUT/tree/\" tree/"), "");
    assert_eq!(world.sh("rsync -aHXn --checksum --delete --itemize-changes \"$OUT/tree/\" tree/"), "");
    world.jaxfs(&["verify"]).ok();
}

fn a_tree_of_five_thousand_files_is_the_same_after_cp() {
    tree_is_the_same_after("cp -a \"$OUT/tree\" .");
}

fn a_tree_of_five_thousand_files_is_the_same_after_tar() {
    tree_is_the_same_after("tar -C \"$OUT\" --xattrs -c tree | tar --xattrs -xp");
}

fn a_tree_of_five_thousand_files_is_the_same_after_rsync() {
    tree_is_the_same_after("rsync -aHX \"$OUT/tree\" .");
}
