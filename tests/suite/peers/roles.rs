//! Who may do what, and who is let in.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::net::{AGAIN, Host, Net, wait_equal};
use crate::world::{JAXFS, SOON, wait_for};

crate::claims! {
    Net: [
        a_reader_reads_everything_and_changes_nothing,
        a_mirror_passes_on_what_it_can_not_read,
        a_member_that_was_removed_is_cut_off,
        a_ticket_lets_in_as_many_as_it_says_and_for_as_long,
        who_joins_while_the_owner_is_away_waits_and_goes_on_by_itself,
    ],
}

fn a_reader_reads_everything_and_changes_nothing() {
    let net = Net::new();
    let (a, r) = (net.owner(), net.host());
    a.sh("mkdir d; echo one > d/f; ln -s d/f s; head -c 500000 /dev/urandom > large");
    r.join(&a, "reader", "r");
    wait_equal(SOON, &[&a, &r]);
    let refused = [
        "echo x > new",
        "echo x >> d/f",
        ": > d/f",
        "rm d/f",
        "mkdir e",
        "rmdir d",
        "mv d e",
        "ln d/f g",
        "ln -s d t",
        "chmod 600 d/f",
        "touch d/f",
        "setfattr -n user.a -v 1 d/f",
        "mkfifo p",
        "truncate -s 1 d/f",
    ];
    for script in refused {
        let said = r.try_sh(script).failed();
        let clear = ["Read-only file system", "Permission denied"].iter().any(|why| said.contains(why));
        assert!(clear, "{script}: {said}");
    }
    a.sh("echo two > d/f; rm s");
    r.wait_says(SOON, "d/f", "two\n");
    wait_equal(SOON, &[&a, &r]);
}

fn a_mirror_passes_on_what_it_can_not_read() {
    const NAMES: [&str; 2] = ["a-telling-name", "another-telling-name"];
    const TEXT: &str = "what nobody else is to know";
    let net = Net::new();
    let (a, m, b) = (net.owner(), net.host(), net.host());
    fs::write(a.at(NAMES[0]), TEXT).unwrap();
    m.jaxfs(&["join", &a.ticket("mirror"), "--name", "mirror"]).ok();
    m.start_node();
    b.join(&a, "writer", "b");
    b.wait_says(SOON, NAMES[0], TEXT);
    b.unmount();
    fs::create_dir(a.at("folder")).unwrap();
    fs::write(a.at("folder").join(NAMES[1]), TEXT).unwrap();
    // Long enough to be a block of its own.
    fs::write(a.at("long"), TEXT.repeat(10_000)).unwrap();
    a.jaxfs(&["sync", "--published", "1", "--timeout", "30"]).ok();
    a.unmount();
    b.mount();
    b.wait_says(AGAIN, &format!("folder/{}", NAMES[1]), TEXT);
    b.wait_says(AGAIN, "long", &TEXT.repeat(10_000));
    // And the other way.
    fs::write(b.at("reply"), TEXT).unwrap();
    b.jaxfs(&["sync", "--published", "1", "--timeout", "30"]).ok();
    b.unmount();
    a.mount();
    a.wait_says(AGAIN, "reply", TEXT);
    for file in m.home_files() {
        let (bytes, path) = (fs::read(&file).unwrap(), file.display());
        for secret in NAMES.iter().chain(&[TEXT]) {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found && !file.as_os_str().as_bytes().ends_with(secret.as_bytes()), "{path} has {secret:?}");
        }
    }
}

fn members(host: &Host) -> Vec<Value> {
    let report: Value = serde_json::from_str(&host.jaxfs(&["members", "--json"]).ok()).unwrap();
    report["members"].as_array().unwrap().clone()
}

fn a_member_that_was_removed_is_cut_off() {
    let net = Net::new();
    let [a, b, c] = net.devices();
    fs::write(a.at("before"), "before").unwrap();
    wait_equal(SOON, &[&a, &b, &c]);
    a.jaxfs(&["members", "remove", "device1"]).ok();
    wait_for("all others know", SOON, || members(&c).len() == 2 && members(&a).len() == 2);
    wait_for("nobody talks to it", AGAIN, || a.connected() == 1 && c.connected() == 1 && b.connected() == 0);
    fs::write(a.at("after"), "after").unwrap();
    let _ = fs::write(b.at("from outside"), "x");
    let _ = b.jaxfs_here(&["sync", "--timeout", "5"]);
    c.wait_says(SOON, "after", "after");
    fs::write(c.at("later"), "later").unwrap();
    a.wait_says(SOON, "later", "later");
    wait_equal(SOON, &[&a, &c]);
    assert!(!b.has("after") && !b.has("later"), "it still learns what is written");
    assert!(!a.has("from outside") && !c.has("from outside"), "its saves are still taken");
    // Not by coming back, either.
    b.unmount();
    b.mount();
    wait_for("it is told", AGAIN, || {
        let peers: Value = serde_json::from_str(&b.jaxfs(&["peers", "--json"]).ok()).unwrap();
        peers.as_array().unwrap().iter().any(|peer| peer["refused"] == true)
    });
    assert_eq!(b.connected(), 0);
    assert!(!b.has("after") && b.has("before"), "what it had it keeps");
}

fn a_ticket_lets_in_as_many_as_it_says_and_for_as_long() {
    let net = Net::new();
    let (a, b, c) = (net.owner(), net.host(), net.host());
    let expiring = a.jaxfs(&["share", "--expires", "5s"]).ok();
    let made = Instant::now();
    let ticket = a.ticket("writer");
    let join = |host: &Host, ticket: &str| host.jaxfs(&["join", ticket.trim(), host.dir().to_str().unwrap()]);
    join(&b, &ticket).ok();
    let said = join(&c, &ticket).failed();
    assert!(said.contains("ticket"), "{said}");
    assert!(!c.is_mounted());
    wait_for("the ticket expires", SOON, || made.elapsed() > Duration::from_secs(5));
    let said = join(&c, &expiring).failed();
    assert!(said.contains("the ticket has expired: ask for a new one"), "{said}");
    let three = a.jaxfs(&["share", "--uses", "3"]).ok();
    join(&c, &three).ok();
    wait_equal(AGAIN, &[&a, &b, &c]);
}

fn who_joins_while_the_owner_is_away_waits_and_goes_on_by_itself() {
    let net = Net::new();
    let (a, b) = (net.owner(), net.host());
    fs::write(a.at("file"), "text").unwrap();
    let ticket = a.ticket("writer");
    a.pull();
    let mut errors = tempfile::tempfile().unwrap();
    let mut joining = b.command(JAXFS);
    joining.args(["join", &ticket]).arg(b.dir()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut joining = joining.stderr(errors.try_clone().unwrap()).spawn().unwrap();
    let mut said = String::new();
    wait_for("it says what it waits for", AGAIN, || {
        std::io::Seek::rewind(&mut errors).unwrap();
        said.clear();
        errors.read_to_string(&mut said).unwrap();
        said.contains("waiting for the owner's device")
    });
    assert!(joining.try_wait().unwrap().is_none(), "it gave up: {said}");
    net.heal();
    let mut ended = None;
    wait_for("it goes on", AGAIN, || {
        ended = joining.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success(), "{said}");
    b.wait_says(SOON, "file", "text");
}
