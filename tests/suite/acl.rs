//! POSIX ACLs: what they say, who is let in by them, and what becomes of them on the way.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::world::World;

crate::claims! {
    Mount: [
        acls_survive,
        a_default_acl_is_inherited_whatever_the_umask_is,
        without_a_default_acl_the_umask_counts,
        a_change_of_mode_changes_the_mask,
        acls_are_those_of_the_machine_s_own_file_system,
        acls_of_files_that_are_shown_as_mine_are_those_of_the_machine_s_own_file_system,
        acls_are_the_same_after_rsync,
        acls_are_the_same_after_tar,
        acls_are_the_same_after_cp,
    ],
    Root: [
        other_users_may_what_they_may_on_the_machine_s_own_file_system,
        a_named_user_is_let_in_to_files_that_are_shown_as_mine,
    ],
}

/// A mount that other users reach, whose parent folder is the test's alone otherwise.
fn open_to_others(args: &[&str]) -> World {
    let world = World::new();
    world.try_mount(&[&["-o", "allow_other"], args].concat()).ok();
    fs::set_permissions(world.outside(""), Permissions::from_mode(0o755)).unwrap();
    world
}

/// The ACLs of all that is in a folder, in an order of their own.
#[track_caller]
fn acls(world: &World, folder: &str) -> Vec<String> {
    let text = world.sh(&format!("cd \"{folder}\"; getfacl -Rn ."));
    let mut acls: Vec<_> = text.trim_end().split("\n\n").map(str::to_owned).collect();
    acls.sort();
    acls
}

/// Compares two long lists, and shows the first difference only.
#[track_caller]
fn equal(found: &[String], expected: &[String]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

/// Runs a script in the mount, and in a folder of the machine's own file system, which has to have ACLs too. It prints the
/// same, and nothing of it is forgotten by the next mount.
#[track_caller]
fn same_as_on_the_disk(world: &World, script: &str) {
    world.sh("mkdir -m 755 \"$OUT/disk\"");
    let disk = world.sh(&format!("cd \"$OUT/disk\"\n{script}"));
    let mount = world.sh(script);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    equal(&lines(&mount), &lines(&disk));
    let disk = acls(world, "$OUT/disk");
    equal(&acls(world, "."), &disk);
    world.remount();
    equal(&acls(world, "."), &disk);
    world.jaxfs(&["verify"]).ok();
}

fn acls_survive() {
    let world = World::mounted();
    world.sh("umask 022; mkdir d; touch f d/f; setfacl -m u:1:rw,g:60:r f; setfacl -m u:1:-,d:u:2:rx,d:g:60:w d; \
         setfacl -m g:60:rwx d/f; setfacl -b d/f");
    let said = |name: &str| world.sh(&format!("getfacl -cEn {name} | tr '\\n' ' '")).trim_end().to_owned();
    let file = "user::rw- user:1:rw- group::r-- group:60:r-- mask::rw- other::r--";
    let folder = "user::rwx user:1:--- group::r-x mask::r-x other::r-x default:user::rwx default:user:2:r-x \
                  default:group::r-x default:group:60:-w- default:mask::rwx default:other::r-x";
    let all = || {
        assert_eq!(said("f"), file);
        assert_eq!(said("d"), folder);
        assert_eq!(said("d/f"), "user::rw- group::r-- other::r--");
        assert_eq!(world.sh("stat -c %A f d d/f"), "-rw-rw-r--\ndrwxr-xr-x\n-rw-r--r--\n");
    };
    all();
    world.remount();
    all();
    world.sh("getfattr -d -m - f d | grep -c posix_acl | grep -qx 3; setfacl -x g:60 f; setfacl -k d");
    world.remount();
    assert_eq!(said("f"), "user::rw- user:1:rw- group::r-- mask::rw- other::r--");
    assert_eq!(said("d"), "user::rwx user:1:--- group::r-x mask::r-x other::r-x");
}

fn a_default_acl_is_inherited_whatever_the_umask_is() {
    let world = World::mounted();
    world.sh("mkdir d; setfacl -m d:u::rwx,d:u:1:rwx,d:g::rx,d:o::r d; umask 077; touch d/f; mkdir d/s; touch d/s/f");
    world.remount();
    let file = "user::rw- user:1:rwx group::r-x mask::rw- other::r--";
    assert_eq!(world.sh("getfacl -cEn d/f | tr '\\n' ' '").trim_end(), file);
    assert_eq!(world.sh("getfacl -cEn d/s/f | tr '\\n' ' '").trim_end(), file);
    assert_eq!(world.sh("stat -c %a d/f d/s d/s/f"), "664\n774\n664\n");
    assert_eq!(world.sh("diff <(getfacl -dcn d) <(getfacl -dcn d/s)"), "");
}

fn without_a_default_acl_the_umask_counts() {
    let world = World::mounted();
    world.sh("setfacl -m u:1:rwx .; umask 027; touch f; mkdir d; mkfifo p; ln -s f l; umask 000; touch g");
    assert_eq!(world.sh("stat -c %a f d p l g"), "640\n750\n640\n777\n666\n");
    assert_eq!(world.sh("getfacl -s f d p g"), "");
}

fn a_change_of_mode_changes_the_mask() {
    let world = World::mounted();
    world.sh("umask 022; touch f; setfacl -m u:1:rwx,g::r f; chmod 640 f");
    let said = |world: &World| world.sh("getfacl -cEn f | tr '\\n' ' '").trim_end().to_owned();
    assert_eq!(said(&world), "user::rw- user:1:rwx group::r-- mask::r-- other::---");
    world.sh("chmod g+wx,o=x f");
    assert_eq!(said(&world), "user::rw- user:1:rwx group::r-- mask::rwx other::--x");
    world.remount();
    assert_eq!(said(&world), "user::rw- user:1:rwx group::r-- mask::rwx other::--x");
}

fn acls_are_those_of_the_machine_s_own_file_system() {
    same_as_on_the_disk(&World::mounted(), include_str!("scripts/acls.sh"));
}

fn acls_of_files_that_are_shown_as_mine_are_those_of_the_machine_s_own_file_system() {
    let world = World::new();
    world.try_mount(&["--owner", "me"]).ok();
    same_as_on_the_disk(&world, include_str!("scripts/acls.sh"));
}

fn other_users_may_what_they_may_on_the_machine_s_own_file_system() {
    same_as_on_the_disk(&open_to_others(&[]), include_str!("scripts/acls_of_others.sh"));
}

fn a_named_user_is_let_in_to_files_that_are_shown_as_mine() {
    let world = open_to_others(&["--owner", "me"]);
    let cat = "setpriv --reuid 65534 --regid 65534 --clear-groups cat f 2>&1";
    world.sh("umask 077; chmod 711 .; echo inside > f");
    assert!(world.try_sh(cat).out.contains("Permission denied"));
    world.sh("setfacl -m u:65534:r f");
    assert_eq!(world.sh(cat), "inside\n");
    world.sh("chmod g= f");
    assert!(world.try_sh(cat).out.contains("Permission denied"));
}

/// Copies a tree with ACLs into the mount as `tree`, and compares them in the next mount.
#[track_caller]
fn acls_are_the_same_after(copy: &str) {
    let world = World::mounted();
    world.sh(&format!("mkdir \"$OUT/tree\"; cd \"$OUT/tree\"\n{}", include_str!("scripts/acls.sh")));
    world.sh("find \"$OUT/tree\" -type s -delete"); // tar knows none
    let original = acls(&world, "$OUT/tree");
    world.sh(copy);
    equal(&acls(&world, "tree"), &original);
    world.remount();
    equal(&acls(&world, "tree"), &original);
    // And back.
    world.sh("mkdir \"$OUT/back\"; mv \"$OUT/tree\" \"$OUT/first\"; cp -a tree \"$OUT/tree\"");
    equal(&acls(&world, "$OUT/tree"), &original);
}

fn acls_are_the_same_after_rsync() {
    acls_are_the_same_after("rsync -aA \"$OUT/tree\" .; test -z \"$(rsync -aAn --itemize-changes \"$OUT/tree\" .)\"");
}

fn acls_are_the_same_after_tar() {
    acls_are_the_same_after("tar -C \"$OUT\" --acls -c tree 2> /dev/null | tar --acls -xp");
}

fn acls_are_the_same_after_cp() {
    acls_are_the_same_after("cp -a \"$OUT/tree\" .");
}
