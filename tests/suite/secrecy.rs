//! Nothing that a user wrote can be read in what the program leaves behind.

use std::fs;

use crate::world::World;

crate::claims! {
    Mount: [
        no_name_and_no_content_stands_in_the_home_or_in_any_log,
        the_home_is_the_users_alone,
    ],
}

/// Looked for everywhere. Each is long enough to be no accident.
const NAME: &str = "name-of-a-diary-2b9f";
const FOLDER: &str = "folder-of-letters-77ac";
const CONTENT: &str = "the content of a secret page e41d ";
const TARGET: &str = "target-of-a-link-90be";
const ATTRIBUTE: &str = "user.attribute-c3d2";
const VALUE: &str = "value-of-it-5e5e";
const BUCKET: &str = "Bucket-of-secrets-1f1f";

fn no_name_and_no_content_stands_in_the_home_or_in_any_log() {
    let mut world = World::new();
    world.set("JAXFS_LOG", "trace");
    let dir = world.outside(BUCKET);
    fs::create_dir(&dir).unwrap();
    let at = dir.to_str().unwrap().to_owned();
    let mut said = vec![world.jaxfs(&["mount", &at])];
    said.push(world.try_sh(&format!(
        "cd \"$OUT/{BUCKET}\"; mkdir {FOLDER}; printf %s '{CONTENT}' > {FOLDER}/{NAME}; \
         for i in $(seq 20000); do printf %s '{CONTENT}'; done > large-{NAME}; ln -s {TARGET} link; \
         ln large-{NAME} second-{NAME}; setfattr -n {ATTRIBUTE} -v {VALUE} {FOLDER}; \
         mv {FOLDER}/{NAME} {FOLDER}/moved-{NAME}; cat {FOLDER}/moved-{NAME} large-{NAME} > /dev/null; \
         ls -laR > /dev/null; sync large-{NAME}; rm second-{NAME}; mkdir x; ! rmdir {FOLDER} 2> /dev/null; \
         ! cat missing-{NAME} 2> /dev/null"
    )));
    said.push(world.jaxfs(&["sync", &at]));
    said.push(world.jaxfs(&["log", "--json"]));
    said.push(world.jaxfs(&["verify"]));
    said.push(world.jaxfs(&["unmount", &at]));
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for said in said {
        assert!(said.status.success(), "{}{}", said.out, said.err);
        // A person who mounts BUCKET may be told its name; nothing more.
        let told = format!("{}{}", said.out, said.err).replace(BUCKET, "");
        texts.push(("what a command said".to_owned(), told.into_bytes()));
    }
    let log = fs::read_to_string(world.home().join("node.log")).unwrap();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log says little: {log}");
    for file in world.home_files() {
        texts.push((file.display().to_string(), fs::read(file).unwrap()));
    }
    assert!(texts.iter().any(|(place, _)| place.ends_with(".pack")));
    for (place, bytes) in &texts {
        for secret in [NAME, FOLDER, CONTENT, TARGET, ATTRIBUTE, VALUE, BUCKET] {
            let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            assert!(
                found.is_none(),
                "`{secret}` stands in {place} at {}:\n{}",
                found.unwrap(),
                line(bytes, found.unwrap())
            );
        }
    }
}

/// The line around an offset, if it is text.
fn line(bytes: &[u8], at: usize) -> String {
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    String::from_utf8_lossy(&bytes[start..(start + 300).min(bytes.len())]).into_owned()
}

fn the_home_is_the_users_alone() {
    let world = World::mounted();
    fs::write(world.at("file"), b"x").unwrap();
    world.sync();
    let open = world.command("find").arg(world.home()).args(["-perm", "/077"]).output().unwrap();
    let listed = String::from_utf8(open.stdout).unwrap();
    // What is below a folder that nobody else can enter is out of reach; keys, locks and the socket are closed anyway.
    let closed = ["device.key", "owner.key", "node.sock", "node.lock", "node.log"];
    for path in listed.lines() {
        assert!(!closed.iter().any(|name| path.ends_with(name)), "others may use {path}");
        assert_ne!(path, world.home().to_str().unwrap());
    }
}
