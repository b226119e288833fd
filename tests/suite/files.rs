//! What POSIX and Linux say of files and directories, by system calls.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, RenameFlags, SeekFrom as At, copy_file_range, fallocate, renameat_with, seek};
use rustix::io::Errno;

use crate::world::World;

crate::claims! {
    Mount: [
        a_shared_mapping_is_coherent_and_written_back,
        appends_of_two_processes_do_not_overwrite_each_other,
        a_file_renamed_over_is_read_on_through_its_handle,
        an_unlinked_file_is_read_and_written_through_its_handle,
        a_file_grows_and_shrinks,
        a_truncating_open_empties_the_file,
        ranges_are_punched_zeroed_and_kept,
        holes_and_data_are_told_apart,
        ranges_are_copied_inside_the_mount,
        rename_refuses_and_exchanges,
        rename_over_directories_follows_the_rules,
        a_listing_goes_on_while_names_come_and_go,
        twenty_thousand_names_are_listed_once_each,
        a_full_directory_is_not_removed,
        wrong_names_are_refused,
        exclusive_creation_happens_once,
        writes_behind_the_end_leave_zeros,
        times_change_when_they_should,
        a_file_larger_than_memory_for_dirty_data_is_written,
        umask_and_setgid_directories_are_honoured,
        reserved_names_in_the_root_are_refused,
        a_file_opened_twice_is_one_file,
        readers_and_writers_at_once_see_whole_writes,
        small_reads_at_random_never_see_old_bytes,
    ],
    Root: [
        a_write_by_another_user_drops_set_id_bits,
        a_sticky_directory_protects_its_files,
    ],
}

fn a_shared_mapping_is_coherent_and_written_back() {
    let world = World::mounted();
    world.python(
        "import mmap, os\n\
         f = open('map', 'w+b'); f.write(bytes(300000)); f.flush()\n\
         m = mmap.mmap(f.fileno(), 300000)\n\
         m[1000:1005] = b'hello'\n\
         assert os.pread(f.fileno(), 5, 1000) == b'hello'\n\
         os.pwrite(f.fileno(), b'there', 200000)\n\
         assert m[200000:200005] == b'there'\n\
         g = open('map', 'r+b'); n = mmap.mmap(g.fileno(), 300000)\n\
         n[131070:131074] = b'edge'\n\
         assert m[131070:131074] == b'edge'\n\
         m[299999:300000] = b'!'\n\
         m.flush()\n\
         p = mmap.mmap(f.fileno(), 300000, flags=mmap.MAP_PRIVATE); p[0:4] = b'mine'; assert m[0:4] == bytes(4)\n\
         m[50000:50004] = b'late'\n\
         n.close(); m.close(); g.close(); f.close()",
    );
    world.remount();
    let bytes = fs::read(world.at("map")).unwrap();
    let mut expected = vec![0; 300_000];
    for (at, text) in [(1000, "hello"), (200_000, "there"), (131_070, "edge"), (299_999, "!"), (50_000, "late")] {
        expected[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    assert!(bytes == expected);
}

fn appends_of_two_processes_do_not_overwrite_each_other() {
    let world = World::mounted();
    world
        .sh("for who in a b; do (for i in $(seq 400); do echo \"$who $i some more text\" >> log; done) & done; wait; \
         exec 3>> kept 4>> kept; for i in $(seq 100); do echo three >&3; echo four >&4; done");
    let text = fs::read_to_string(world.at("log")).unwrap();
    assert_eq!(text.lines().count(), 800);
    assert_eq!(text.lines().collect::<BTreeSet<_>>().len(), 800);
    assert_eq!(fs::read(world.at("kept")).unwrap().len(), 1100);
}

fn a_file_renamed_over_is_read_on_through_its_handle() {
    let world = World::mounted();
    fs::write(world.at("file"), b"old").unwrap();
    let mut open = File::open(world.at("file")).unwrap();
    fs::write(world.at("new"), b"new one").unwrap();
    fs::rename(world.at("new"), world.at("file")).unwrap();
    assert_eq!(fs::read(world.at("file")).unwrap(), b"new one");
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
    assert_eq!(open.metadata().unwrap().nlink(), 0);
}

fn an_unlinked_file_is_read_and_written_through_its_handle() {
    let world = World::mounted();
    let mut open = File::options().create_new(true).read(true).write(true).open(world.at("file")).unwrap();
    open.write_all(b"before ").unwrap();
    world.sync();
    fs::remove_file(world.at("file")).unwrap();
    open.write_all(b"after").unwrap();
    world.sync();
    open.write_all_at(&[7; 300_000], 1 << 20).unwrap();
    open.sync_all().unwrap();
    let mut bytes = Vec::new();
    open.rewind().unwrap();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(&bytes[..12], b"before after");
    assert_eq!(bytes.len(), (1 << 20) + 300_000);
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    assert!(!world.at("file").exists());
    drop(open);
    world.remount();
    assert_eq!(fs::read_dir(world.dir()).unwrap().count(), 0);
    world.jaxfs(&["verify"]).ok();
}

fn a_file_grows_and_shrinks() {
    let world = World::mounted();
    let file = File::options().create_new(true).read(true).write(true).open(world.at("file")).unwrap();
    file.write_all_at(&[1; 200_000], 0).unwrap();
    file.set_len(131_073).unwrap();
    world.sync();
    file.set_len(100).unwrap();
    file.set_len(400_000).unwrap();
    let mut expected = vec![1; 100];
    expected.resize(400_000, 0);
    assert!(fs::read(world.at("file")).unwrap() == expected);
    file.set_len(0).unwrap();
    file.set_len(10).unwrap();
    drop(file);
    world.remount();
    assert_eq!(fs::read(world.at("file")).unwrap(), [0; 10]);
    world.sh("truncate -s 3 file");
    assert_eq!(fs::metadata(world.at("file")).unwrap().size(), 3);
}

fn a_truncating_open_empties_the_file() {
    let world = World::mounted();
    fs::write(world.at("file"), vec![1; 200_000]).unwrap();
    world.sync();
    let other = File::open(world.at("file")).unwrap();
    drop(File::create(world.at("file")).unwrap());
    assert_eq!(other.metadata().unwrap().size(), 0);
    world.remount();
    assert_eq!(fs::read(world.at("file")).unwrap(), b"");
}

fn ranges_are_punched_zeroed_and_kept() {
    let world = World::mounted();
    let file = File::options().create_new(true).read(true).write(true).open(world.at("file")).unwrap();
    let mut expected = vec![9; 500_000];
    file.write_all_at(&expected, 0).unwrap();
    world.sync();
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 100_000, 200_000).unwrap();
    expected[100_000..300_000].fill(0);
    fallocate(&file, FallocateFlags::ZERO_RANGE, 490_000, 20_000).unwrap();
    expected[490_000..].fill(0);
    expected.resize(510_000, 0);
    assert!(fs::read(world.at("file")).unwrap() == expected);
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().size(), 510_000);
    fallocate(&file, FallocateFlags::empty(), 0, 600_000).unwrap();
    expected.resize(600_000, 0);
    drop(file);
    world.remount();
    assert!(fs::read(world.at("file")).unwrap() == expected);
    let file = File::options().read(true).write(true).open(world.at("file")).unwrap();
    assert_eq!(fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096), Err(Errno::OPNOTSUPP));
}

fn holes_and_data_are_told_apart() {
    let world = World::mounted();
    let file = File::options().create_new(true).read(true).write(true).open(world.at("file")).unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(&[1; 4096], 4 << 20).unwrap();
    let places = |file: &File| {
        let data = seek(file, At::Data(0)).unwrap();
        let hole = seek(file, At::Hole(data)).unwrap();
        (seek(file, At::Hole(0)).unwrap(), data, hole, seek(file, At::Data(hole)))
    };
    let expected = (0, 4 << 20, (4 << 20) + 4096, Err(Errno::NXIO));
    assert_eq!(places(&file), expected);
    drop(file);
    world.remount();
    let file = File::open(world.at("file")).unwrap();
    assert_eq!(places(&file), expected);
    assert_eq!(seek(&file, At::Hole(9 << 20)), Err(Errno::NXIO));
}

fn ranges_are_copied_inside_the_mount() {
    let world = World::mounted();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 3) as u8 ^ (at >> 12) as u8).collect();
    fs::write(world.at("from"), &bytes).unwrap();
    world.sync();
    let from = File::open(world.at("from")).unwrap();
    let to = File::create_new(world.at("to")).unwrap();
    let (mut read_at, mut write_at) = (10_000, 500);
    while read_at < bytes.len() as u64 {
        let copied = copy_file_range(&from, Some(&mut read_at), &to, Some(&mut write_at), 1 << 20).unwrap();
        assert!(copied > 0, "it stops at {read_at}");
    }
    drop((from, to));
    world.remount();
    let copy = fs::read(world.at("to")).unwrap();
    assert!(copy[..500].iter().all(|&byte| byte == 0) && copy[500..] == bytes[10_000..]);
}

fn rename(world: &World, from: &str, to: &str, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, world.at(from), CWD, world.at(to), flags)
}

fn rename_refuses_and_exchanges() {
    let world = World::mounted();
    world.sh("echo a > a; mkdir -p d/sub; echo b > d/b");
    assert_eq!(rename(&world, "a", "d/b", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename(&world, "a", "c", RenameFlags::NOREPLACE).unwrap();
    rename(&world, "c", "d/b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(world.sh("cat c d/b"), "b\na\n");
    rename(&world, "c", "d", RenameFlags::EXCHANGE).unwrap(); // a file and a directory
    world.remount();
    assert_eq!(world.sh("cat d c/b; ls c"), "b\na\nb\nsub\n");
    assert_eq!(rename(&world, "missing", "d", RenameFlags::EXCHANGE), Err(Errno::NOENT));
    assert_eq!(rename(&world, "d", "missing", RenameFlags::EXCHANGE), Err(Errno::NOENT));
    assert_eq!(rename(&world, "c", "c/sub", RenameFlags::EXCHANGE), Err(Errno::INVAL));
    world.jaxfs(&["verify"]).ok();
}

fn rename_over_directories_follows_the_rules() {
    let world = World::mounted();
    world.sh("mkdir -p full/x empty from; touch file from/f");
    let plain = RenameFlags::empty();
    assert_eq!(rename(&world, "from", "full", plain), Err(Errno::NOTEMPTY));
    assert_eq!(rename(&world, "from", "file", plain), Err(Errno::NOTDIR));
    assert_eq!(rename(&world, "file", "empty", plain), Err(Errno::ISDIR));
    assert_eq!(rename(&world, "full", "full/x/y", plain), Err(Errno::INVAL));
    rename(&world, "from", "empty", plain).unwrap();
    world.sh("ln file again"); // two names of one file: a rename of one onto the other does nothing
    rename(&world, "file", "again", plain).unwrap();
    assert_eq!(world.sh("ls empty; ls"), "f\nagain\nempty\nfile\nfull\n");
    let links = |name: &str| fs::metadata(world.at(name)).unwrap().nlink();
    assert_eq!((links("full"), links("empty"), links("file"), links("")), (3, 2, 2, 4));
}

fn names_of(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn a_listing_goes_on_while_names_come_and_go() {
    let world = World::mounted();
    let dir = world.at("d");
    fs::create_dir(&dir).unwrap();
    for at in 0..3000 {
        fs::write(dir.join(format!("stays-{at:04}")), b"").unwrap();
        fs::write(dir.join(format!("goes-{at:04}")), b"").unwrap();
    }
    for round in 0..2 {
        let mut seen = Vec::new();
        for (at, entry) in fs::read_dir(&dir).unwrap().enumerate() {
            seen.push(entry.unwrap().file_name().into_string().unwrap());
            if at % 3 == 0 && at < 3000 {
                let _ = fs::remove_file(dir.join(format!("goes-{:04}", at / 3 + round * 1000)));
                fs::write(dir.join(format!("comes-{round}-{at:04}")), b"").unwrap();
            }
        }
        let stays = seen.iter().filter(|name| name.starts_with("stays-")).count();
        assert_eq!(stays, 3000, "every name that was there all along is listed");
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "none is listed twice");
        world.sync();
    }
}

fn twenty_thousand_names_are_listed_once_each() {
    let world = World::mounted();
    let dir = world.at("d");
    fs::create_dir(&dir).unwrap();
    let expected: BTreeSet<_> = (0..20_000).map(|at| format!("a longer name, number {at}")).collect();
    for name in &expected {
        fs::write(dir.join(name), b"").unwrap();
    }
    for stored in [false, true] {
        let listed = names_of(&dir);
        assert_eq!(listed.len(), 20_000, "stored: {stored}");
        assert!(listed.into_iter().collect::<BTreeSet<_>>() == expected);
        world.sh("test \"$(ls -f d | wc -l)\" = 20002; test \"$(ls -l d | wc -l)\" = 20001");
        if !stored {
            world.remount();
        }
    }
    world.sh("rm -rf d");
    assert!(!dir.exists());
}

fn a_full_directory_is_not_removed() {
    let world = World::mounted();
    world.sh("mkdir -p d; touch d/x");
    assert_eq!(fs::remove_dir(world.at("d")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    world.remount();
    assert_eq!(fs::remove_dir(world.at("d")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::remove_file(world.at("d/x")).unwrap();
    fs::remove_dir(world.at("d")).unwrap();
    assert_eq!(rustix::fs::rmdir(world.at("d")), Err(Errno::NOENT));
}

fn wrong_names_are_refused() {
    let world = World::mounted();
    let error = |name: &str| fs::write(world.at(name), b"").unwrap_err().raw_os_error().map(Errno::from_raw_os_error);
    assert_eq!(error(&"n".repeat(256)), Some(Errno::NAMETOOLONG));
    assert_eq!(error("no/such"), Some(Errno::NOENT));
    fs::write(world.at("file"), b"").unwrap();
    assert_eq!(error("file/below"), Some(Errno::NOTDIR));
    assert_eq!(fs::read_dir(world.at("file")).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert!(fs::remove_file(world.dir().join(".")).is_err());
}

fn exclusive_creation_happens_once() {
    let world = World::mounted();
    let won: usize = std::thread::scope(|scope| {
        let tries = (0..8).map(|_| scope.spawn(|| usize::from(File::create_new(world.at("one")).is_ok())));
        tries.collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
}

fn writes_behind_the_end_leave_zeros() {
    let world = World::mounted();
    let file = File::create_new(world.at("file")).unwrap();
    file.write_all_at(b"a", 0).unwrap();
    world.sync();
    file.write_all_at(b"z", 400_000).unwrap();
    drop(file);
    world.remount();
    let bytes = fs::read(world.at("file")).unwrap();
    assert_eq!((bytes.len(), bytes[0], bytes[400_000]), (400_001, b'a', b'z'));
    assert!(bytes[1..400_000].iter().all(|&byte| byte == 0));
}

fn times_change_when_they_should() {
    let world = World::mounted();
    let times = |name: &str| {
        let meta = fs::metadata(world.at(name)).unwrap();
        ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()))
    };
    fs::write(world.at("file"), b"x").unwrap();
    fs::create_dir(world.at("d")).unwrap();
    let (made, dir_made) = (times("file"), times("d"));
    fs::read(world.at("file")).unwrap();
    assert_eq!(times("file"), made, "reading changes nothing");
    fs::set_permissions(world.at("file"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let chmod = times("file");
    assert!(chmod.0 == made.0 && chmod.1 > made.1, "chmod changes ctime only");
    File::options().append(true).open(world.at("file")).unwrap().write_all(b"y").unwrap();
    let written = times("file");
    assert!(written.0 > made.0 && written.1 > chmod.1, "writing changes both");
    fs::write(world.at("d/new"), b"").unwrap();
    let grown = times("d");
    assert!(grown.0 > dir_made.0 && grown.1 > dir_made.1, "a new name changes its directory");
    fs::hard_link(world.at("file"), world.at("d/link")).unwrap();
    assert!(times("file").1 > written.1, "a link changes ctime");
    assert_eq!(times("file").0, written.0);
    world.remount();
    assert_eq!(times("file").0, written.0);
}

fn a_file_larger_than_memory_for_dirty_data_is_written() {
    let world = World::new();
    world.try_mount(&["-o", "dirty=8M,cache=8M"]).ok();
    world.sh("head -c 40M /dev/urandom | tee \"$OUT/large\" > large; cmp large \"$OUT/large\"");
    let dirty = world.status()["mount"]["dirty_bytes"].as_u64().unwrap();
    assert!(dirty <= 10 << 20, "{dirty} bytes in memory");
    world.remount();
    world.sh("cmp large \"$OUT/large\"");
}

fn umask_and_setgid_directories_are_honoured() {
    let world = World::mounted();
    world.sh("umask 027; touch f; mkdir d; umask 0; mkdir -m 2775 g; mkdir g/sub; touch g/f");
    assert_eq!(world.sh("stat -c %a f d g g/sub"), "640\n750\n2775\n2777\n");
}

fn reserved_names_in_the_root_are_refused() {
    let world = World::mounted();
    for name in [".forks", ".history"] {
        assert!(fs::create_dir(world.at(name)).is_err());
        assert!(fs::write(world.at(name), b"").is_err());
    }
    world.sh("mkdir -p d/.forks; echo fine > d/.history; ! mv d/.history .history 2> /dev/null");
}

fn a_file_opened_twice_is_one_file() {
    let world = World::mounted();
    let open = || File::options().create(true).truncate(false).read(true).write(true).open(world.at("file")).unwrap();
    let (one, mut other) = (open(), open());
    one.write_all_at(b"written by one", 0).unwrap();
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap();
    assert_eq!(text, "written by one");
    world.sync();
    one.write_all_at(b"W", 0).unwrap();
    other.seek(SeekFrom::Start(0)).unwrap();
    let mut byte = [0];
    other.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"W");
}

fn readers_and_writers_at_once_see_whole_writes() {
    let world = World::mounted();
    let path = world.at("file");
    fs::write(&path, [b'0'; 4096]).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = File::options().write(true).open(&path).unwrap();
            for round in 0..2000_u32 {
                file.write_all_at(&[b'0' + (round % 10) as u8; 4096], 0).unwrap();
            }
        });
        let file = File::open(&path).unwrap();
        while !writer.is_finished() {
            let mut page = [0; 4096];
            file.read_exact_at(&mut page, 0).unwrap();
            assert!(page.iter().all(|byte| byte.is_ascii_digit()));
        }
        writer.join().unwrap();
    });
    assert_eq!(fs::read(&path).unwrap(), [b'9'; 4096]);
}

fn small_reads_at_random_never_see_old_bytes() {
    let world = World::mounted();
    world.script(include_str!("scripts/read_while_written.py"), &["file", "6"]);
}

fn a_write_by_another_user_drops_set_id_bits() {
    let world = World::mounted_for_others("");
    world.sh("echo x > f; chmod 6777 f; chmod 777 .");
    world.python("import os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\nopen('f', 'a').write('y')");
    assert_eq!(world.sh("stat -c %a f"), "777\n");
}

fn a_sticky_directory_protects_its_files() {
    let world = World::mounted_for_others("");
    world.sh("mkdir -m 1777 t; touch t/roots");
    world.python(
        "import os\n\
         os.setgroups([]); os.setgid(65534); os.setuid(65534)\n\
         open('t/mine', 'w').close()\n\
         try: os.unlink('t/roots'); raise SystemExit('removed')\n\
         except PermissionError: pass\n\
         os.unlink('t/mine')",
    );
}
