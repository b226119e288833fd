//! Backups: repositories that live in a mount, and backups of a mount, which are told by inode numbers and times what they need not
//! read again.

use crate::apps::archives::with_tree;
use crate::walk::{describe_copy, same};
use crate::world::World;

crate::claims! {
    Mount: [
        restic_restores_what_it_kept_in_a_mount,
        restic_reads_nothing_again_after_a_remount,
        borg_restores_what_it_kept_in_a_mount,
        borg_reads_nothing_again_after_a_remount,
    ],
}

#[track_caller]
fn with_restic(kind: &str) -> World {
    let mut world = with_tree(kind);
    world.set("RESTIC_PASSWORD", "a word");
    world.set("RESTIC_CACHE_DIR", world.outside("cache").to_str().unwrap().to_owned().as_str());
    world
}

fn restic_restores_what_it_kept_in_a_mount() {
    let world = with_restic("all");
    world.sh(r#"
        restic -q -r repo init; cd "$OUT"; restic -q -r Bucket/repo backup tree
        echo more >> tree/many/001; rm tree/many/002; restic -q -r Bucket/repo backup tree"#);
    world.remount();
    world.sh(r#"
        restic -r repo check --read-data > /dev/null; restic -q -r repo restore latest --target restored
        restic -q -r repo restore latest --target "$OUT/restored"
        diff -r --no-dereference restored/tree/many "$OUT/tree/many"; diff -r restored/tree/sizes "$OUT/tree/sizes""#);
    let expected = describe_copy(&world.outside("restored/tree"));
    world.remount();
    same(&expected, &describe_copy(&world.at("restored/tree")));
    // Packs are written anew, and the old ones removed.
    world.sh("restic -q -r repo forget --keep-last 1 --prune > /dev/null");
    world.remount();
    world.sh(r#"
        restic -r repo check --read-data > /dev/null; test "$(restic -q -r repo snapshots --json | grep -o short_id | wc -l)" = 1
        restic -q -r repo restore latest --target again"#);
    same(&expected, &describe_copy(&world.at("again/tree")));
}

fn restic_reads_nothing_again_after_a_remount() {
    let world = with_restic("all");
    world.sh("cp -a \"$OUT/tree\" .; restic -q -r \"$OUT/repo\" init; restic -q -r \"$OUT/repo\" backup tree");
    world.remount();
    world.sh("echo changed > tree/many/003");
    let said = world.sh("restic -r \"$OUT/repo\" backup --json tree | grep '\"summary\"'");
    assert!(said.contains(r#""files_new":0,"files_changed":1,"#), "{said}");
    let said = world.sh("restic -q -r \"$OUT/repo\" restore latest --target \"$OUT/restored\"; diff -r --no-dereference tree/sizes \"$OUT/restored/tree/sizes\"");
    assert_eq!(said, "");
}

#[track_caller]
fn with_borg(kind: &str) -> World {
    let mut world = with_tree(kind);
    world.set("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
    world
}

fn borg_restores_what_it_kept_in_a_mount() {
    let world = with_borg("all");
    world.sh(r#"
        borg init -e none repo; cd "$OUT"; borg create Bucket/repo::one tree
        echo more >> tree/many/001; rm tree/many/002; borg create Bucket/repo::two tree"#);
    world.remount();
    world.sh(r#"
        borg check --verify-data repo; mkdir out; cd out; borg extract --sparse --numeric-ids ../repo::two
        diff -r --no-dereference tree/many "$OUT/tree/many"; diff -r tree/sizes "$OUT/tree/sizes"
        mkdir "$OUT/disk"; cd "$OUT/disk"; borg extract --numeric-ids ../Bucket/repo::two; cd "$OUT/Bucket/out"
        borg delete ../repo::one; borg compact ../repo; borg check --verify-data ../repo"#);
    let expected = describe_copy(&world.outside("disk/tree"));
    same(&expected, &describe_copy(&world.at("out/tree")));
    world.remount();
    same(&expected, &describe_copy(&world.at("out/tree")));
    assert_eq!(
        world.sh("borg list --short repo; mkdir again; cd again; borg extract --numeric-ids ../repo::two"),
        "two\n"
    );
    same(&expected, &describe_copy(&world.at("again/tree")));
}

fn borg_reads_nothing_again_after_a_remount() {
    let world = with_borg("all");
    // It reads the newest again, for fear of changes in the same instant.
    world.sh("cp -a \"$OUT/tree\" .; touch tree/newest; borg init -e none \"$OUT/repo\"; borg create \"$OUT/repo::one\" tree");
    world.remount();
    let said =
        world.sh("echo changed > tree/many/003; borg create --list --filter AME \"$OUT/repo::two\" tree 2>&1 | sort");
    assert_eq!(said, "A tree/newest\nM tree/many/003\n");
    let restore = "mkdir \"$OUT/restored\"; cd \"$OUT/restored\"; borg extract --numeric-ids ../repo::two";
    world.sh(&format!(
        "{restore}; for d in sizes many; do diff -r --no-dereference tree/$d \"$OUT/Bucket/tree/$d\"; done"
    ));
}
