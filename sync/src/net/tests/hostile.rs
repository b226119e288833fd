//! What enemies try, and what comes of it: nothing. After each attempt the buckets show what they showed, and go on.

use std::sync::atomic::{AtomicI64, Ordering};

use iroh::endpoint::Connection;
use serde::Serialize;

use super::super::wire::{HistoryPart, Notice};
use super::enemy::*;
use super::*;
use crate::bucket::{Height, Place, SealingKey, Signature, SignedManifest};
use crate::link::BucketId;

/// What a question to be let in looks like.
#[derive(Serialize)]
struct Knock {
    bucket: Link,
    #[serde(with = "serde_bytes")]
    secret: [u8; 32],
    sealing: SealingKey,
    binding: Signature,
    name: String,
}

/// An owner and a writer that are connected.
fn friends() -> (Home, Home) {
    let (a, c) = pair(Role::Writer);
    until("connected", || a.network().peers().iter().any(|peer| peer.device == c.device.id() && peer.connected));
    (a, c)
}

/// What each publishes, the other one shows.
fn goes_on(a: &Home, c: &Home) {
    static TIME: AtomicI64 = AtomicI64::new(1_000);
    for (from, to) in [(a, c), (c, a)] {
        let time = TIME.fetch_add(1, Ordering::Relaxed);
        let head = from.touch(time);
        until("the other one shows it", || to.bucket().head() == head && to.time() == time);
    }
}

fn is_closed(enemy: &Enemy, connection: &Connection) {
    enemy.run(connection.closed());
}

#[test]
fn strangers_are_answered_on_no_protocol() {
    let (a, c) = friends();
    let stranger = Enemy::new();
    for protocol in [wire::CHAIN, wire::BLOCKS, iroh_gossip::ALPN] {
        let Some(connection) = stranger.connect(&a, protocol) else { continue };
        let answered = stranger.run(async {
            let (mut send, mut recv) = connection.open_bi().await.ok()?;
            drop(send.write_all(&[1, 0, 0, 0, 0]).await);
            recv.read_chunk(1).await.ok()?
        });
        assert!(answered.is_none());
        is_closed(&stranger, &connection);
    }
    assert!(a.network().peers().iter().all(|peer| peer.device != stranger.device.id()));
    goes_on(&a, &c);
}

#[test]
fn no_ticket_that_is_false_used_expired_or_foreign_lets_anybody_in_nor_do_keys_of_another() {
    let (a, other) = (Home::owner(), Home::owner());
    let used = a.ticket(Role::Reader);
    Home::new().join(&used).unwrap();
    let expired = a.bucket().invite(Role::Reader, Timestamp(1), 1).unwrap();
    let good = a.ticket(Role::Reader).secret;
    let foreign = other.ticket(Role::Reader).secret;
    let members = a.bucket().member_infos().len();
    let knock = |secret: &Secret, binding_for: BucketId| {
        let thief = Enemy::new();
        let connection = thief.connect(&a, wire::JOIN).unwrap();
        let own = thief.device.identity(binding_for);
        let knock = Knock {
            bucket: a.bucket().genesis(),
            secret: *secret.expose(),
            sealing: own.sealing,
            binding: own.binding,
            name: "thief".into(),
        };
        thief.run(async {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            wire::send(&mut send, &knock).await.unwrap();
            send.finish().unwrap();
            let answer = recv.read_to_end(1 << 20).await.unwrap();
            assert!(answer.windows(2).any(|part| part == b"No"), "{answer:?}");
        });
    };
    let id = a.bucket().id();
    [&Secret::random(), &used.secret, &expired, &foreign].into_iter().for_each(|secret| knock(secret, id));
    knock(&good, other.bucket().id());
    assert_eq!(a.bucket().member_infos().len(), members);
}

#[test]
fn strangers_who_stand_in_the_door_keep_nobody_out() {
    let a = Home::owner();
    let crowd: Vec<_> = (0..8).map(|_| Enemy::new()).collect();
    let held = crowd.iter().enumerate().map(|(at, one)| {
        let connection = one.connect(&a, wire::JOIN).unwrap();
        let own = one.device.identity(a.bucket().id());
        let knock = Knock {
            bucket: a.bucket().genesis(),
            secret: [1; 32],
            sealing: own.sealing,
            binding: own.binding,
            name: "x".into(),
        };
        let mut frame = wire::encode(&knock).unwrap();
        // Half of them never end their question, and half never go away.
        frame.truncate(if at % 2 == 0 { 40 } else { frame.len() });
        let streams = one.run(async {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&frame).await.unwrap();
            (send, recv)
        });
        (connection, streams)
    });
    let held: Vec<_> = held.collect();
    let mut friend = Home::new();
    let began = Instant::now();
    friend.join(&a.ticket(Role::Reader)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    drop(held);
}

#[test]
fn what_a_member_garbles_changes_nothing_and_fills_no_memory() {
    let (a, c) = friends();
    let before = memory();
    let genesis = a.bucket().genesis();
    for role in [Role::Writer, Role::Reader, Role::Mirror] {
        let enemy = Enemy::member(&a, role);
        let connection = enemy.chain(&a);
        enemy.say(&connection, b"");
        enemy.say(&connection, &[9; 100]);
        enemy.say(&connection, &[255, 255, 255, 255]);
        enemy.say(&connection, &[100, 0, 0, 0, 1, 2, 3]);
        let long = [&(wire::QUESTION_MOST as u32).to_le_bytes()[..], &vec![0; wire::QUESTION_MOST]].concat();
        (0..100).for_each(|_| enemy.say(&connection, &long));
        let mut many = heads(genesis, nowhere());
        many.tips = (0..3_000).map(|_| nowhere()).collect();
        enemy.tell(&connection, &Notice::Heads { bucket: genesis, heads: many, answer: true });
        enemy.claims(&connection, nowhere(), nowhere());
        enemy.tell(&connection, &Notice::Holds { bucket: genesis, version: nowhere() });
        let reach = |device| Reach { device, sockets: vec!["127.0.0.1:9".parse().unwrap()], relay: None };
        let strangers: Vec<_> = (0..2_000).map(|_| reach(DeviceKey::generate().id())).collect();
        let known = |home: &Home| home.network().shared.book.get(&strangers[0].device).is_some();
        enemy.tell(&connection, &Notice::Addresses(strangers.clone()));
        let mut everywhere = reach(c.device.id());
        everywhere.sockets = (1..5_000).map(|port| ([127, 0, 0, 1], port).into()).collect();
        enemy.tell(&connection, &Notice::Addresses(vec![everywhere]));
        // As many questions for history and blocks as it can, all of them nonsense.
        let blocks = enemy.connect(&a, wire::BLOCKS).unwrap();
        enemy.run(async {
            for connection in [&connection, &blocks] {
                for _ in 0..1_500 {
                    let (mut send, recv) = connection.open_bi().await.unwrap();
                    drop(send.write_all(&[255, 255, 255, 255]).await);
                    drop((send, recv));
                }
            }
        });
        goes_on(&a, &c);
        assert!(!known(&a), "an address of a stranger");
    }
    assert!(memory() < before + 300, "{before} MiB, then {} MiB", memory());
}

#[test]
fn nothing_that_is_forged_is_taken_from_whoever_is_asked() {
    let (a, c) = friends();
    let reader = Enemy::member(&a, Role::Reader);
    let stranger = DeviceKey::generate();
    type Forger<'a> = Box<dyn Fn(&SignedManifest, &DeviceKey) -> Vec<Vec<u8>> + 'a>;
    let bytes = |manifest: SignedManifest| manifest.bytes().to_vec();
    let by = |key: &DeviceKey, on: &SignedManifest| forge(on, key, |_| {});
    let height = |add: u64| {
        move |draft: &mut crate::bucket::ManifestDraft| {
            if let Place::After { height, .. } = &mut draft.place {
                *height = Height(height.0 + add);
            }
        }
    };
    let forgers: Vec<(&str, Forger<'_>)> = vec![
        (
            "a bad signature",
            Box::new(|on, writer| {
                let mut forged = bytes(by(writer, on));
                *forged.last_mut().unwrap() ^= 1;
                vec![forged]
            }),
        ),
        ("by nobody", Box::new(|on, _| vec![bytes(by(&stranger, on))])),
        ("by a reader", Box::new(|on, _| vec![bytes(by(&reader.device, on))])),
        (
            "another bucket",
            Box::new(|on, writer| vec![bytes(forge(on, writer, |draft| draft.id = BucketId(uuid::Uuid::nil())))]),
        ),
        ("too high", Box::new(|on, writer| vec![bytes(forge(on, writer, height(1)))])),
        ("far too high", Box::new(|on, writer| vec![bytes(forge(on, writer, height(1 << 60)))])),
        ("another epoch", Box::new(|on, writer| vec![bytes(forge(on, writer, |draft| draft.share.epoch.0 += 2))])),
        ("not canonical", Box::new(|on, writer| vec![[bytes(by(writer, on)), vec![0]].concat()])),
        ("junk", Box::new(|_, _| vec![vec![7; 4_000]])),
        ("too large", Box::new(|_, _| vec![vec![7; 1 << 20]])),
    ];
    for (what, forger) in forgers {
        let writer = Enemy::member(&a, Role::Writer);
        let on = head_of(&a);
        let versions = a.bucket().replica().versions();
        let forged = forger(&on, &writer.device);
        writer.trick.lock().history = History::Parts(vec![part(forged)]);
        let (connection, asked) = (writer.chain(&a), writer.histories());
        writer.claims(&connection, a.bucket().genesis(), nowhere());
        until(what, || writer.histories() > asked);
        assert_eq!((a.bucket().head(), a.bucket().replica().versions()), (on.link(), versions), "{what}");
        // Asked once more after a while, and no wiser.
        goes_on(&a, &c);
    }
    goes_on(&a, &c);
}

#[test]
fn what_is_valid_before_the_first_forged_item_is_taken_and_nothing_behind_it() {
    let (a, c) = friends();
    let enemy = Enemy::member(&a, Role::Writer);
    let on = head_of(&a);
    let first = forge(&on, &enemy.device, |draft| draft.timestamp = Timestamp(u64::MAX));
    let forged = forge(&first, &DeviceKey::generate(), |_| {});
    let behind = forge(&forged, &enemy.device, |_| {});
    let all = [&first, &forged, &behind].map(|one| one.bytes().to_vec());
    enemy.trick.lock().history = History::Parts(vec![part(all.to_vec())]);
    let connection = enemy.chain(&a);
    enemy.claims(&connection, a.bucket().genesis(), behind.link());
    let replica = a.bucket().replica();
    until("the first is taken", || replica.manifest_bytes(&first.link()).unwrap().is_some());
    assert_eq!(a.bucket().head(), on.link(), "it is not shown: nobody has its content");
    goes_on(&a, &c);
    assert!([&forged, &behind].iter().all(|one| replica.manifest_bytes(&one.link()).unwrap().is_none()));
}

#[test]
fn endless_answers_and_answers_that_never_come_hold_up_nobody_and_fill_no_memory() {
    let (a, c) = friends();
    let before = memory();
    let enemies: Vec<_> = (0..4).map(|_| Enemy::member(&a, Role::Writer)).collect();
    let on = head_of(&a);
    let old: Vec<_> = std::iter::repeat_n(on.bytes().to_vec(), 500).collect();
    let lost = forge(&on, &enemies[0].device, |_| {});
    let junk: Vec<_> = (0..50).map(|_| forge(&lost, &enemies[0].device, |_| {}).bytes().to_vec()).collect();
    let endless = |items: Vec<Vec<u8>>| History::Endless(HistoryPart { last: false, ..part(items) });
    let tricks = [endless(old), endless(junk), History::Stall, History::Bytes(u32::MAX.to_le_bytes().to_vec())];
    let mut connections = Vec::new();
    for (enemy, trick) in enemies.iter().zip(tricks) {
        enemy.trick.lock().history = trick;
        let connection = enemy.chain(&a);
        enemy.claims(&connection, a.bucket().genesis(), nowhere());
        until("asked", || enemy.histories() > 0);
        connections.push(connection);
    }
    (0..3).for_each(|_| goes_on(&a, &c));
    assert!(memory() < before + 400, "{before} MiB, then {} MiB", memory());
}

#[test]
fn blocks_that_are_false_late_or_missing_hold_up_nobody() {
    for blocks in [Blocks::NotHere, Blocks::Wrong, Blocks::More, Blocks::Huge] {
        let (a, c) = friends();
        let enemy = Enemy::member(&a, Role::Writer);
        let withheld = forge(&head_of(&a), &enemy.device, |_| {});
        *enemy.trick.lock() = Trick { history: History::Parts(vec![part(vec![withheld.bytes().to_vec()])]), blocks };
        let shown = a.bucket().head();
        let connection = enemy.chain(&a);
        enemy.claims(&connection, a.bucket().genesis(), withheld.link());
        until("asked for blocks", || enemy.blocks() > 0);
        assert_eq!(a.bucket().head(), shown);
        goes_on(&a, &c);
    }
}

#[test]
fn whoever_never_sends_its_blocks_is_not_asked_first_again_and_again() {
    let (a, c) = friends();
    let enemies: Vec<_> = (0..3).map(|_| Enemy::member(&a, Role::Writer)).collect();
    let mut connections = Vec::new();
    for enemy in &enemies {
        enemy.trick.lock().blocks = Blocks::Stall;
        connections.push(enemy.chain(&a));
    }
    // Each of them may be asked once, before it is known.
    let unknown = || enemies.iter().any(|enemy| enemy.blocks() == 0);
    (0..20).take_while(|_| unknown()).for_each(|_| goes_on(&a, &c));
    let began = Instant::now();
    (0..3).for_each(|_| goes_on(&a, &c));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_revoked_writer_is_cut_off_and_its_longer_chain_wins_nowhere_whoever_relays_it() {
    let (a, c) = friends();
    let (revoked, relay) = (Enemy::member(&a, Role::Writer), Enemy::member(&a, Role::Reader));
    let (chain, blocks) = (revoked.chain(&a), revoked.connect(&a, wire::BLOCKS).unwrap());
    let mut long = vec![head_of(&a)];
    (0..30).for_each(|at| long.push(forge(&long[at], &revoked.device, |_| {})));
    a.bucket().remove(&owner_key(&a), &revoked.device.id()).unwrap();
    is_closed(&revoked, &chain);
    is_closed(&revoked, &blocks);
    let bytes = long[1..].iter().map(|one| one.bytes().to_vec()).collect();
    relay.trick.lock().history = History::Parts(vec![part(bytes)]);
    let connection = relay.chain(&a);
    let (head, last) = (a.bucket().head(), long[30].link());
    relay.claims(&connection, a.bucket().genesis(), last);
    until("asked", || relay.histories() > 0);
    goes_on(&a, &c);
    assert_eq!(a.bucket().replica().head(), a.bucket().head());
    assert!(a.bucket().replica().has(&a.bucket().head(), &head));
    assert!(!a.bucket().replica().has(&a.bucket().head(), &last));
}

#[test]
fn one_device_has_few_connections_for_blocks() {
    let (a, c) = friends();
    let enemy = Enemy::member(&a, Role::Reader);
    let _chain = enemy.chain(&a);
    let many: Vec<_> = (0..20).map(|_| enemy.connect(&a, wire::BLOCKS).unwrap()).collect();
    until("most are closed", || many.iter().filter(|one| one.close_reason().is_none()).count() <= 4);
    goes_on(&a, &c);
}
