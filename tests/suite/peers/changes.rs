//! What one device does to files, the others see; and what two did that did not see each other is not lost.

use std::collections::BTreeSet;
use std::fs;

use super::net::{AGAIN, Host, Net, wait_equal};
use crate::world::{SOON, wait_for};

crate::claims! {
    Net: [
        whatever_is_done_to_files_travels_both_ways,
        a_device_that_was_away_for_500_saves_catches_up_by_itself,
        three_devices_that_wrote_apart_show_one_version_again_and_have_all_others,
    ],
}

fn whatever_is_done_to_files_travels_both_ways() {
    let net = Net::new();
    let [a, b] = net.devices();
    for (here, there, name) in [(&a, &b, "first"), (&b, &a, "second")] {
        here.sh(&format!("mkdir {name}; echo one > {name}/created; echo two > {name}/removed; head -c 300000 /dev/urandom > {name}/large"));
        there.wait_says(SOON, &format!("{name}/removed"), "two\n");
        there.sh(&format!(
            "cd {name}; echo more >> created; mv created renamed; rm removed; ln renamed linked; ln -s renamed symbolic; \
             chmod 640 renamed; setfattr -n user.color -v red renamed; mkfifo pipe; mkdir -p deep/er; mv large deep/er; \
             printf edited | dd of=deep/er/large bs=1 seek=100000 conv=notrunc status=none; touch -d @86400 deep; \
             setfattr -n user.last -v 1 ."
        ));
        let seen = || here.try_sh(&format!("getfattr -n user.last {name}")).status.success();
        wait_for("the last change arrives", SOON, seen);
        let script = format!(
            "cd {name}; cat linked; stat -c '%a %h %F' renamed symbolic pipe; readlink symbolic; ls; \
                              getfattr --only-values -n user.color linked; stat -c %Y deep"
        );
        let seen = "one\nmore\n640 2 regular file\n777 1 symbolic link\n644 1 fifo\nrenamed\ndeep\nlinked\npipe\n\
                    renamed\nsymbolic\nred86400\n";
        assert_eq!(here.sh(&script), seen);
        wait_equal(SOON, &[&a, &b]);
    }
}

fn a_device_that_was_away_for_500_saves_catches_up_by_itself() {
    let net = Net::new();
    let [a, b] = net.devices();
    fs::write(a.at("before"), "before").unwrap();
    b.wait_says(SOON, "before", "before");
    b.ip("link set eth0 down");
    for save in 0..500 {
        fs::write(a.at("new"), format!("save {save}")).unwrap();
        fs::rename(a.at("new"), a.at(format!("file{}", save % 20))).unwrap();
        // So that each is a version of its own.
        a.sync();
    }
    b.ip("link set eth0 up");
    b.wait_says(AGAIN, "file19", "save 499");
    wait_equal(SOON, &[&a, &b]);
    assert!(a.manifests() > 500, "{}", a.manifests());
    assert_eq!(a.manifests(), b.manifests());
}

fn three_devices_that_wrote_apart_show_one_version_again_and_have_all_others() {
    let net = Net::new();
    let [a, b, c] = net.devices();
    fs::write(a.at("common"), "common").unwrap();
    wait_equal(SOON, &[&a, &b, &c]);
    net.part(&[&a]);
    wait_for("the sides miss each other", SOON, || (a.connected(), b.connected(), c.connected()) == (0, 1, 1));
    for number in 0..4 {
        save(&a, &format!("a{number}"));
        save(&b, &format!("b{number}"));
    }
    c.wait_says(SOON, "b3", "b3");
    save(&c, "c");
    b.wait_says(SOON, "c", "c");
    let acknowledged: BTreeSet<_> = [&a, &c].into_iter().flat_map(versions).collect();
    let (left, right) = (a.head(), c.head());
    net.heal();
    wait_equal(AGAIN, &[&a, &b, &c]);
    assert!(b.has("common"));
    for host in [&a, &b, &c] {
        let known: BTreeSet<_> = versions(host).collect();
        assert!(acknowledged.is_subset(&known), "a version that was acknowledged is not known any more");
    }
    // What is not shown is drawn as what lost, and can be shown.
    let shown = a.head();
    for (tip, of, names) in [(left, &a, ["a0", "a3"]), (right, &c, ["b3", "c"])] {
        if names.iter().all(|name| of.has(name)) {
            continue;
        }
        assert_ne!(tip, shown);
        assert!(of.status()["head"]["displaced"].as_u64() > Some(0));
        assert!(of.jaxfs(&["log", "--graph"]).ok().contains('x'), "what lost is marked");
        of.jaxfs(&["head", "pin", tip.as_str().unwrap()]).ok();
        names.iter().for_each(|name| of.wait_says(SOON, name, name));
    }
}

fn save(host: &Host, name: &str) {
    fs::write(host.at(name), name).unwrap();
    host.sync();
}

fn versions(host: &Host) -> impl Iterator<Item = String> {
    host.log().into_iter().map(|version| version["link"].as_str().unwrap().to_owned())
}
