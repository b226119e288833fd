//! Large files, large directories, many of a kind: what is said of small ones holds for them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{SeekFrom as At, seek};

use crate::world::World;

crate::claims! {
    Mount: [
        a_tebibyte_with_three_words_in_it_is_small,
        the_last_byte_of_the_largest_file_is_kept_and_none_behind_it,
        a_limit_on_the_size_of_files_is_kept,
        a_large_directory_is_taken_up_anywhere_while_names_come_and_go,
        a_tree_and_its_links_are_removed_by_find_and_by_rm,
        a_file_has_up_to_sixty_five_thousand_names,
        the_longest_path_is_walked_packed_and_removed,
        every_byte_may_be_in_a_name_as_often_as_it_fits,
        stat_du_and_find_tell_how_much_room_a_file_takes,
        direct_reads_and_writes_have_any_length_and_agree_with_others,
        two_thousand_files_are_open_at_once,
    ],
    Root: [df_tells_how_much_room_is_left],
}

const TEBIBYTE: u64 = 1 << 40;

/// Where there are bytes in a file.
fn map(file: &File) -> Vec<(u64, u64)> {
    let (mut map, mut at) = (Vec::new(), 0);
    while let Ok(data) = seek(file, At::Data(at)) {
        at = seek(file, At::Hole(data)).unwrap();
        map.push((data, at));
    }
    map
}

fn a_tebibyte_with_three_words_in_it_is_small() {
    let world = World::mounted();
    let before = world.stored();
    let places = [(0, "start"), (TEBIBYTE / 2 - 3, "middle"), (TEBIBYTE - 3, "end")];
    let expected: Vec<_> = places.iter().map(|(at, word)| (*at, at + word.len() as u64)).collect();
    let file = File::create_new(world.at("large")).unwrap();
    file.set_len(TEBIBYTE).unwrap();
    for (at, word) in places {
        file.write_all_at(word.as_bytes(), at).unwrap();
    }
    drop(file);
    let is_as_it_was = |name: &str| {
        let file = File::open(world.at(name)).unwrap();
        assert_eq!(file.metadata().unwrap().size(), TEBIBYTE, "{name}");
        for (at, word) in places {
            let mut bytes = vec![0; word.len()];
            file.read_exact_at(&mut bytes, at).unwrap();
            assert_eq!(bytes, word.as_bytes(), "{name} at {at}");
        }
        // A copy may have whole blocks around the words.
        let around = |((from, to), (word, end)): (&(u64, u64), &(u64, u64))| from <= word && end <= to;
        let map = map(&file);
        assert!(map.len() == 3 && map.iter().zip(&expected).all(around), "{name}: {map:?}");
        assert!(map.iter().map(|(from, to)| to - from).sum::<u64>() <= 1 << 20, "{name}: {map:?}");
        let mut zeros = [1; 70_000];
        file.read_exact_at(&mut zeros, TEBIBYTE / 4).unwrap();
        assert!(zeros.iter().all(|&byte| byte == 0));
    };
    is_as_it_was("large");
    world.sh("timeout 20 cp --sparse=always large copy; timeout 20 tar --sparse -cf t.tar large; mkdir u; \
         timeout 20 tar -C u --sparse -xf t.tar; test \"$(stat -c %s t.tar)\" -lt 100000");
    for _ in 0..2 {
        ["large", "copy", "u/large"].into_iter().for_each(is_as_it_was);
        let taken = world.sh("du -s -B1 large u/large copy | awk '{ all += $1 } END { print all }'");
        assert!(taken.trim().parse::<u64>().unwrap() <= 3 << 20, "{taken}");
        world.remount();
    }
    assert_eq!(map(&File::open(world.at("large")).unwrap()), expected);
    let stored = world.stored() - before;
    assert!(stored < 256 << 10, "{stored} bytes");
    world.jaxfs(&["verify"]).ok();
}

fn the_last_byte_of_the_largest_file_is_kept_and_none_behind_it() {
    let world = World::mounted();
    world.python(
        "import errno, os\n\
         end = 2**63 - 1\n\
         def refused(wanted, call, *args):\n\
         \x20   try: done = call(*args)\n\
         \x20   except OSError as error: assert error.errno == wanted, (call, args, error)\n\
         \x20   else: raise SystemExit(f'{call} {args[1:]} gave {done}')\n\
         file = os.open('file', os.O_CREAT | os.O_RDWR)\n\
         assert os.pwrite(file, b'last', end - 4) == 4\n\
         assert os.fstat(file).st_size == end == os.lseek(file, 0, os.SEEK_END)\n\
         assert os.lseek(file, 0, os.SEEK_DATA) == end - 4\n\
         assert os.pread(file, 4, end - 4) == b'last'\n\
         # Beyond what an offset can be, the kernel says EINVAL; where it can be, the file is too large.\n\
         refused(errno.EINVAL, os.pwrite, file, b'xy', end - 1)\n\
         refused(errno.EINVAL, os.ftruncate, file, -1)\n\
         refused(errno.EFBIG, os.posix_fallocate, file, end - 4, 5)\n\
         refused(errno.EFBIG, os.write, os.open('file', os.O_WRONLY | os.O_APPEND), b'x')\n\
         from_ = os.open('from', os.O_CREAT | os.O_RDWR); os.write(from_, b'abcdef')\n\
         assert os.copy_file_range(from_, file, 6, 0, end - 3) == 3\n\
         refused(errno.EFBIG, os.copy_file_range, from_, file, 1, 0, end)\n\
         os.posix_fallocate(file, end - 8, 8); os.ftruncate(file, end)\n\
         os.fsync(file)",
    );
    world.remount();
    let file = File::options().read(true).write(true).open(world.at("file")).unwrap();
    let end = i64::MAX as u64;
    assert_eq!(file.metadata().unwrap().size(), end);
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, end - 5).unwrap();
    assert_eq!(&bytes, b"\0labc");
    assert!(file.metadata().unwrap().blocks() < 1000 && world.stored() < 256 << 10);
    world.jaxfs(&["verify"]).ok();
}

fn a_limit_on_the_size_of_files_is_kept() {
    let world = World::mounted();
    let said = world.try_sh("ulimit -f 100; exec head -c 1M /dev/zero > file");
    let killed_by = std::os::unix::process::ExitStatusExt::signal(&said.status);
    assert_eq!(killed_by, Some(rustix::process::Signal::XFSZ.as_raw()), "{}", said.err);
    assert_eq!(fs::metadata(world.at("file")).unwrap().size(), 100 << 10);
    // Python ignores the signal.
    world.python(
        "import errno, os, resource\n\
         limit = 150001\n\
         resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n\
         def refused(call, *args):\n\
         \x20   try: done = call(*args)\n\
         \x20   except OSError as error: assert error.errno == errno.EFBIG, (call, args, error)\n\
         \x20   else: raise SystemExit(f'{call} {args[1:]} gave {done}')\n\
         file = os.open('file', os.O_RDWR)\n\
         assert os.pwrite(file, bytes(100000), 100000) == 50001\n\
         refused(os.pwrite, file, b'x', limit)\n\
         refused(os.ftruncate, file, limit + 1)\n\
         refused(os.posix_fallocate, file, limit, 1)\n\
         refused(os.copy_file_range, file, file, 10, 0, limit)\n\
         os.ftruncate(file, limit); assert os.fstat(file).st_size == limit",
    );
}

fn a_large_directory_is_taken_up_anywhere_while_names_come_and_go() {
    let world = World::mounted();
    let script = include_str!("scripts/positions.py");
    world.python(&format!("import sys\nsys.argv = ['', 'd', '20000']\n{script}"));
    world.remount();
    world.sh("test \"$(ls d | grep -c '^stays-')\" = 20000; find d -delete; test ! -e d");
    world.jaxfs(&["verify"]).ok();
}

fn a_tree_and_its_links_are_removed_by_find_and_by_rm() {
    let world = World::mounted();
    world.python(
        "import os\n\
         for at in range(6000):\n\
         \x20   if at % 300 == 0: folder = f'd/{at % 3}/{at}'; os.makedirs(folder)\n\
         \x20   os.mknod(f'{folder}/{at}', 0o100644)\n\
         \x20   if at % 50 == 0: os.symlink('x', f'{folder}/link {at}')",
    );
    world.sh("cp -al d stored; find d -name '*7' -delete; test \"$(find d -type f | wc -l)\" = 5400");
    world.remount();
    world.sh(
        "find d -delete; test ! -e d; test \"$(find stored -links 1 -type f | wc -l)\" = 6000; rm -r stored; test -z \"$(ls -A)\"",
    );
    world.remount();
    assert_eq!(world.sh("ls -A; stat -c %h ."), "2\n");
    world.jaxfs(&["verify"]).ok();
}

fn a_file_has_up_to_sixty_five_thousand_names() {
    let world = World::mounted();
    let script = |what: &str| {
        let refused = "def refused():\n\
             \x20   try: os.link('file', 'more')\n\
             \x20   except OSError as error: assert error.errno == errno.EMLINK, error\n\
             \x20   else: raise SystemExit('one more')";
        world.python(&format!("import errno, os\n{refused}\n{what}"));
    };
    // ext4 has the same limit.
    script(
        "open('file', 'w').write('one file'); os.mkdir('d'); here = os.open('d', os.O_RDONLY)\n\
         for at in range(64999): os.link('file', str(at), dst_dir_fd=here)\n\
         assert os.stat('file').st_nlink == 65000\n\
         refused(); os.unlink('d/7'); os.link('file', 'other'); refused()",
    );
    world.remount();
    script(
        "refused(); os.rename('other', 'd/again'); refused()\n\
         assert os.stat('d/64998').st_nlink == 65000 and open('d/again').read() == 'one file'\n\
         os.unlink('file'); os.rename('d/again', 'file'); os.link('file', 'now'); os.unlink('now')",
    );
    world.sh("rm -r d; test \"$(stat -c %h file)\" = 1");
    world.jaxfs(&["verify"]).ok();
}

fn the_longest_path_is_walked_packed_and_removed() {
    let world = World::mounted();
    // 4,095 bytes, and so with its NUL all that the kernel takes: 15 folders and a file of 255 bytes each.
    world.python(
        "import errno, os\n\
         folder = '/'.join('d' * 255 for _ in range(15)); path = folder + '/' + 'f' * 255\n\
         assert len(path) == 4095\n\
         os.makedirs(folder); open(path, 'w').write('deep'); os.link(path, 'link'); os.symlink(path, 'symlink')\n\
         assert open('symlink').read() == 'deep'\n\
         try: open('./' + path)\n\
         except OSError as error: assert error.errno == errno.ENAMETOOLONG\n\
         else: raise SystemExit('longer than a path can be')\n\
         os.mkdir('c'); top = os.getcwd(); os.rename('d' * 255, 'c/' + 'd' * 255)",
    );
    world.remount();
    world.sh(
        "test \"$(find c -type f -printf %f | wc -c)\" = 255; test \"$(find c -type d | wc -l)\" = 16; du -s c > /dev/null; \
         (cd c; tar -cf ../t.tar d*; mkdir ../u; tar -xf ../t.tar -C ../u); test \"$(find u -type f -printf %s)\" = 4; \
         test \"$(cd u; cat d*/d*/d*/d*/d*/d*/d*/d*/d*/d*/d*/d*/d*/d*/d*/f*)\" = deep; rm -rf c; find u -delete; test \"$(ls)\" = \"$(printf 'link\\nsymlink\\nt.tar')\"",
    );
    world.jaxfs(&["verify"]).ok();
}

fn every_byte_may_be_in_a_name_as_often_as_it_fits() {
    let world = World::mounted();
    let bytes = || (1..=255).filter(|byte| *byte != b'/');
    let mut names: BTreeSet<Vec<u8>> = bytes().map(|byte| vec![byte; 255]).collect();
    names.insert(bytes().collect());
    names.extend(bytes().filter(|byte| *byte != b'.').map(|byte| vec![byte]));
    for name in &names {
        fs::write(world.at(OsStr::from_bytes(name)), name).unwrap();
    }
    for _ in 0..2 {
        let listed = fs::read_dir(world.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_encoded_bytes());
        assert!(listed.collect::<BTreeSet<_>>() == names);
        for name in &names {
            assert!(fs::read(world.at(OsStr::from_bytes(name))).unwrap() == *name, "{name:?}");
        }
        world.remount();
    }
    let count = names.len();
    world.sh(&format!(
        "test \"$(find . -type f -print0 | tr -dc '\\0' | wc -c)\" = {count}; mkdir \"$OUT/copy\"; cp -a . \"$OUT/copy\"; \
         diff -r . \"$OUT/copy\"; find . -type f -delete; test -z \"$(ls -A)\""
    ));
}

fn stat_du_and_find_tell_how_much_room_a_file_takes() {
    let world = World::mounted();
    world.sh(
        "mkdir d; head -c 10000000 /dev/urandom > d/dense; truncate -s 10000000 d/hole; head -c 100 d/dense > d/tiny; \
         cp d/dense d/half; fallocate -p -o 1000000 -l 5000000 d/half",
    );
    for _ in 0..2 {
        let taken = |name: &str| fs::metadata(world.at(name)).unwrap().blocks() * 512;
        // Never more than the size, or cp and tar take a dense file for one with holes.
        assert!((10_000_000..10_000_512).contains(&taken("d/dense")), "{}", taken("d/dense"));
        assert!((4_900_000..5_200_000).contains(&taken("d/half")), "{}", taken("d/half"));
        assert!(taken("d/hole") < 4096 && taken("d/tiny") <= 4096, "{} {}", taken("d/hole"), taken("d/tiny"));
        let all = world.sh("du -s -B1 d | cut -f1").trim().parse::<u64>().unwrap();
        assert!((14_900_000..15_400_000).contains(&all), "{all}");
        assert_eq!(world.sh("du -s --apparent-size -B1 d/dense d/hole | cut -f1"), "10000000\n10000000\n");
        assert_eq!(world.sh("find d -type f -size 10000000c | sort | tr '\\n' ' '"), "d/dense d/half d/hole ");
        assert_eq!(world.sh("find d -type f -size -2k; find d -size +9765k | wc -l"), "d/tiny\n3\n");
        world.remount();
    }
}

fn df_tells_how_much_room_is_left() {
    let world = World::on_a_disk_of("200M");
    world.mount();
    let df = |what: &str| world.sh(&format!("df -B1 --output={what} . | tail -n 1")).trim().parse::<u64>().unwrap();
    let (size, before, files) = (df("size"), df("avail"), df("iavail"));
    assert!((150 << 20..=200 << 20).contains(&size) && before < size && files > 1000, "{size} {before} {files}");
    world.sh("head -c 40M /dev/urandom > file");
    world.sync();
    let taken = before - df("avail");
    assert!((40 << 20..50 << 20).contains(&taken), "{taken} bytes");
    assert_eq!(df("size"), size);
    let free = world.sh("stat -f -c '%a %S' .");
    let (blocks, bytes) = free.trim().split_once(' ').unwrap();
    assert!(blocks.parse::<u64>().unwrap() * bytes.parse::<u64>().unwrap() <= before - (40 << 20));
}

fn direct_reads_and_writes_have_any_length_and_agree_with_others() {
    let world = World::mounted();
    world.python(
        "import mmap, os, random\n\
         dice = random.Random(3)\n\
         model = bytearray(300000)\n\
         plain = os.open('file', os.O_CREAT | os.O_RDWR); os.ftruncate(plain, len(model))\n\
         direct = os.open('file', os.O_RDWR | os.O_DIRECT)\n\
         seen = mmap.mmap(plain, len(model))\n\
         memory = mmap.mmap(-1, 1 << 20)\n\
         lengths = [1, 511, 512, 513, 4095, 4096, 4097, 32767, 32768, 65536, 100001]\n\
         for turn in range(600):\n\
         \x20   length = dice.choice(lengths); at = dice.randrange(len(model) - length)\n\
         \x20   if turn % 3 == 0: at -= at % 512\n\
         \x20   part = memoryview(memory)[:length]\n\
         \x20   if turn % 2:\n\
         \x20       part[:] = data = dice.randbytes(length); model[at:at + length] = data\n\
         \x20       way = turn // 2 % 3\n\
         \x20       if way == 0: assert os.pwritev(direct, [part], at) == length\n\
         \x20       elif way == 1: os.pwrite(plain, data, at)\n\
         \x20       else: seen[at:at + length] = data\n\
         \x20   assert os.preadv(direct, [part], at) == length and part == model[at:at + length], (turn, at, length)\n\
         \x20   assert os.pread(plain, length, at) == model[at:at + length] == seen[at:at + length], (turn, at, length)\n\
         end = memoryview(memory)[:65536]\n\
         assert os.preadv(direct, [end], len(model) - 1000) == 1000 and os.preadv(direct, [end], len(model)) == 0\n\
         last = os.open('file', os.O_WRONLY | os.O_APPEND | os.O_DIRECT)\n\
         end[:3] = b'end'; assert os.writev(last, [end[:3]]) == 3\n\
         assert os.pread(plain, 9, len(model)) == b'end'\n\
         open('expected', 'wb').write(model + b'end')",
    );
    world.sh("cmp file expected; dd if=file of=copy iflag=direct oflag=direct bs=4k status=none; cmp file copy");
    world.remount();
    world.sh("cmp file expected; cmp copy expected; dd if=file iflag=direct bs=100k status=none | cmp - expected");
}

fn two_thousand_files_are_open_at_once() {
    let world = World::mounted();
    world.python(
        "import os, resource, subprocess\n\
         most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
         assert most > 2100, f'this machine allows no more than {most} open files'\n\
         resource.setrlimit(resource.RLIMIT_NOFILE, (2100, most))\n\
         sync = lambda: subprocess.run([os.environ['JAXFS'], 'sync', '.'], check=True, stdout=subprocess.DEVNULL)\n\
         text = lambda at, word: (f'{word} {at} ' * 40).encode()\n\
         os.mkdir('d')\n\
         files = [os.open(f'd/{at}', os.O_CREAT | os.O_RDWR) for at in range(2000)]\n\
         for at, file in enumerate(files): os.write(file, text(at, 'first'))\n\
         sync()\n\
         for at in range(0, 2000, 2): os.unlink(f'd/{at}')\n\
         for at in range(1, 2000, 4): os.rename(f'd/{at}', f'd/moved {at}')\n\
         for at, file in enumerate(files): os.pwrite(file, text(at, 'again'), 3000)\n\
         sync()\n\
         for at, file in enumerate(files):\n\
         \x20   first = text(at, 'first')\n\
         \x20   assert os.pread(file, 9999, 0) == first + bytes(3000 - len(first)) + text(at, 'again'), at\n\
         \x20   assert os.fstat(file).st_nlink == at % 2\n\
         for file in files: os.close(file)",
    );
    world.remount();
    world.sh("test \"$(ls d | wc -l)\" = 1000; tail -c 40 'd/moved 1997' | grep -q 'again 1997'");
    world.jaxfs(&["verify"]).ok();
}
