//! Copies and archives: what comes out is what went in, with its names, owners, times, attributes, holes and links.

use crate::walk::{describe_copy, same};
use crate::world::World;

crate::claims! {
    Mount: [
        a_second_rsync_transfers_nothing,
        rsync_updates_in_place_and_deletes,
        rsync_goes_on_where_it_was_ended,
        rsync_links_what_did_not_change_to_the_last_backup,
        tar_keeps_everything_on_the_way_in_and_out,
        tar_adds_to_an_archive_and_tells_what_changed,
        cpio_unpacks_as_on_a_disk,
    ],
    Program("zip"): [zip_unpacks_as_on_a_disk],
}

/// What rsync copies besides content; times to the nanosecond.
const RSYNC: &str = "rsync -aHX --numeric-ids --modify-window=-1";
/// What tar keeps besides content.
const TAR: &str = "tar --format=posix --xattrs --xattrs-include='*' --numeric-owner --sparse";

/// Forgets the times at which things were unpacked, where the archive or its program has no other.
const FORGET: &str = "forget() { find \"$@\" -newermt '-1 hour' -exec touch -h -d @0 {} +; };";

/// A live mount, and `$OUT/tree`.
#[track_caller]
pub(crate) fn with_tree(kind: &str) -> World {
    let world = World::mounted();
    let tree = world.outside("tree");
    world.script(include_str!("../scripts/tree.py"), &[tree.to_str().unwrap(), kind]);
    world
}

/// Checks that a folder of the mount is the same as one beside it, now and in the next mount.
#[track_caller]
fn is_the_same(world: &World, inside: &str, outside: &str) {
    let expected = describe_copy(&world.outside(outside));
    same(&expected, &describe_copy(&world.at(inside)));
    world.remount();
    same(&expected, &describe_copy(&world.at(inside)));
}

fn a_second_rsync_transfers_nothing() {
    let world = with_tree("all");
    world.sh(&format!("{RSYNC} --inplace \"$OUT/tree/\" copy/"));
    is_the_same(&world, "copy", "tree");
    for _ in 0..2 {
        for more in ["--inplace", "--delete", "--checksum --delete"] {
            assert_eq!(world.sh(&format!("{RSYNC} -i {more} \"$OUT/tree/\" copy/")), "", "{more}");
        }
        world.remount();
    }
    world.sh(&format!("{RSYNC} copy/ \"$OUT/back/\""));
    is_the_same(&world, "copy", "back");
    assert_eq!(
        world
            .sh(&format!("{RSYNC} -i --delete --checksum copy/ \"$OUT/back/\"; {RSYNC} -i copy/ twice/ | wc -l"))
            .lines()
            .count(),
        1
    );
    is_the_same(&world, "twice", "tree");
}

fn rsync_updates_in_place_and_deletes() {
    let world = with_tree("all");
    world.sh(&format!("{RSYNC} --inplace \"$OUT/tree/\" copy/"));
    let inode = || world.sh("stat -c %i copy/sizes/1000001");
    let was = inode();
    world.sh(&format!(
        r#"cd "$OUT/tree"; printf changed | dd of=sizes/1000001 bs=1 seek=500000 conv=notrunc status=none
        truncate -s 100 sizes/163917; echo more >> many/001; rm -rf deep many/01*; mkdir many/010; echo new > many/010/new
        ln sizes/4096 links/a/4096; rm links/b/again; ln -sfn elsewhere links/dangling; chmod 711 empty; touch sizes/0
        setfattr -x user.one sizes/257; setfattr -n user.two -v changed sizes/257
        cd "$OUT/Bucket"; {RSYNC} --inplace --no-whole-file --delete "$OUT/tree/" copy/"#
    ));
    assert_eq!(inode(), was);
    is_the_same(&world, "copy", "tree");
    assert_eq!(inode(), was);
    // Without --inplace, a file that changed is a new one.
    world.sh(&format!(
        "touch \"$OUT/tree/sizes/1000001\"; {RSYNC} --no-whole-file --checksum --delete-after \"$OUT/tree/\" copy/"
    ));
    assert_eq!(inode(), was, "only its time changed");
    world.sh(&format!("echo >> \"$OUT/tree/sizes/1000001\"; {RSYNC} --no-whole-file \"$OUT/tree/\" copy/"));
    assert_ne!(inode(), was);
    is_the_same(&world, "copy", "tree");
}

fn rsync_goes_on_where_it_was_ended() {
    let world = World::mounted();
    let broken_off = |more: &str, part: &str| {
        world.sh(&format!(
            r#"mkdir -p copy; {RSYNC} --partial {more} --bwlimit=2M "$OUT/tree/" copy/ > "$OUT/said" 2>&1 & rsync=$!
            for try in $(seq 1000); do test -z "$(find copy -name '*large*' -size +1500k)" || break; sleep 0.01; done
            kill -INT $rsync; ! wait $rsync; for try in $(seq 100); do test ! -e {part} || break; sleep 0.05; done
            size=$(stat -c %s {part}); test $size -gt 1000000; test $size -lt 20000000"#
        ));
        world.remount();
        world.sh(&format!(r#"cmp -n "$(stat -c %s {part})" {part} "$OUT/tree/large""#));
        let said = world.sh(&format!("{RSYNC} --partial {more} --no-whole-file --stats \"$OUT/tree/\" copy/"));
        let matched =
            said.lines().find_map(|line| line.strip_prefix("Matched data: ")).unwrap_or_else(|| panic!("{said}"));
        assert!(!matched.starts_with("0 "), "it began anew:\n{said}");
        is_the_same(&world, "copy", "tree");
        world.sh("rm -rf copy");
    };
    world.sh("mkdir \"$OUT/tree\"; head -c 20000000 /dev/urandom > \"$OUT/tree/large\"");
    broken_off("", "copy/large");
    broken_off("--partial-dir=.part", "copy/.part/large");
    broken_off("--inplace", "copy/large");
}

fn rsync_links_what_did_not_change_to_the_last_backup() {
    let world = with_tree("all");
    world.sh(&format!("{RSYNC} \"$OUT/tree/\" day1/; cp -a \"$OUT/tree\" \"$OUT/day1\""));
    world.remount();
    world.sh(&format!(
        r#"echo more >> "$OUT/tree/many/050"; rm "$OUT/tree/many/051"; touch "$OUT/tree/many/052"
        {RSYNC} --link-dest=../day1 "$OUT/tree/" day2/"#
    ));
    world.remount();
    world.sh(&format!("{RSYNC} --link-dest=../day2 --link-dest=../day1 \"$OUT/tree/\" day3/"));
    let shared = r#"
        for name in sizes/1000001 many/049 holes/ends; do test day1/$name -ef day2/$name; test day1/$name -ef day3/$name; done
        for name in many/050 many/052; do test ! day1/$name -ef day2/$name; test day2/$name -ef day3/$name; done
        test "$(stat -c %h day1/many/049 day2/many/050 day1/sizes/257 | tr '\n' ' ')" = '3 2 9 '"#;
    world.sh(shared);
    is_the_same(&world, "day3", "tree");
    world.sh(shared);
    is_the_same(&world, "day1", "day1");
    world.sh("rm -rf day1 day2");
    is_the_same(&world, "day3", "tree");
    assert_eq!(world.sh("stat -c %h day3/many/049 day3/sizes/257"), "1\n3\n");
    world.jaxfs(&["verify"]).ok();
}

fn tar_keeps_everything_on_the_way_in_and_out() {
    let world = with_tree("all");
    world.sh(&format!(
        "{TAR} -C \"$OUT\" -cf \"$OUT/in.tar\" tree; {TAR} -xpf \"$OUT/in.tar\"; {TAR} -df \"$OUT/in.tar\""
    ));
    is_the_same(&world, "tree", "tree");
    world.sh(&format!(
        r#"test "$(stat -c %b tree/holes/ends)" -lt 1000; test "$(stat -c %b tree/holes/all)" = 0
        {TAR} -cf out.tar tree; mkdir "$OUT/back"; {TAR} -C "$OUT/back" -xpf out.tar
        test "$(stat -c %s out.tar)" -lt 4000000; test "$(stat -c %b "$OUT/back/tree/holes/ends")" -lt 1000"#
    ));
    is_the_same(&world, "tree", "back/tree");
    // Packed and unpacked at once, with the archive in the mount, and a filter.
    world.sh(&format!("{TAR} -czf out.tgz tree; mkdir twice; {TAR} -C twice -xpf out.tgz; {TAR} -df out.tar"));
    is_the_same(&world, "twice/tree", "tree");
}

fn tar_adds_to_an_archive_and_tells_what_changed() {
    let world = with_tree("plain");
    world.sh(&format!(
        "cp -a \"$OUT/tree\" .; {TAR} -cf t.tar tree/sizes tree/links; {TAR} -rf t.tar tree/many; {TAR} -df t.tar"
    ));
    world.remount();
    world.sh(&format!(
        r#"{TAR} -df t.tar; echo more >> tree/many/003; ! {TAR} -df t.tar > "$OUT/said"; grep -q 'many/003: Size differs' "$OUT/said"
        {TAR} -uf t.tar tree/many; {TAR} --delete -f t.tar tree/sizes/1; mkdir u; {TAR} -C u -xpf t.tar; rm tree/sizes/1
        diff -r --no-dereference tree/many u/tree/many; diff -r tree/sizes u/tree/sizes"#
    ));
    // Incremental: the state file names each directory's device and inode.
    world.sh(&format!("{TAR} -cf one.tar -g state --no-check-device tree"));
    world.remount();
    world.sh(&format!("echo later > tree/many/later; {TAR} -cf two.tar -g state --no-check-device tree"));
    assert_eq!(world.sh("tar -tf two.tar | grep -v '/$'"), "tree/many/later\n");
}

fn cpio_unpacks_as_on_a_disk() {
    let world = with_tree("all");
    world.sh(&format!(
        r#"{FORGET} cd "$OUT/tree"; find . -depth -print0 | cpio --quiet -0 -o -H newc > "$OUT/in.cpio"
        mkdir "$OUT/disk"; cd "$OUT/disk"; cpio --quiet -idmu --sparse < "$OUT/in.cpio"
        mkdir "$OUT/Bucket/unpacked"; cd "$OUT/Bucket/unpacked"; cpio --quiet -idmu --sparse < "$OUT/in.cpio"
        forget . "$OUT/disk""#
    ));
    is_the_same(&world, "unpacked", "disk");
    world.sh(&format!(
        r#"{FORGET} cd unpacked; find . -depth -print0 | cpio --quiet -0 -o -H newc > ../out.cpio; mkdir ../again; cd ../again
        cpio --quiet -idmu --sparse < ../out.cpio; cd ../unpacked; find . -depth -print0 | cpio --quiet -0 -pdmu --sparse ../passed
        forget ../again ../passed"#
    ));
    is_the_same(&world, "again", "disk");
    is_the_same(&world, "passed", "disk");
}

fn zip_unpacks_as_on_a_disk() {
    let world = with_tree("plain");
    world.sh(&format!(
        r#"{FORGET} cd "$OUT/tree"; zip -qry "$OUT/in.zip" .; mkdir "$OUT/disk"; unzip -q "$OUT/in.zip" -d "$OUT/disk"
        cd "$OUT/Bucket"; unzip -q "$OUT/in.zip" -d unpacked; forget unpacked "$OUT/disk""#
    ));
    is_the_same(&world, "unpacked", "disk");
    world.sh(r#"
        cd unpacked; zip -qry ../out.zip .; echo more >> many/004; echo new > new; zip -qruy ../out.zip .; zip -qd ../out.zip sizes/1
        rm sizes/1; unzip -tq ../out.zip > /dev/null; cd ..; unzip -q out.zip -d again; diff -r --no-dereference unpacked again"#);
    world.remount();
    world.sh("unzip -tq out.zip > /dev/null; diff -r --no-dereference unpacked again");
}
