//! Every bound of this crate in one place, each with its reason.

/// A signed manifest, encoded. It has to fit in one gossip message, whose library limit is 4,096 bytes.
pub const MANIFEST_BYTES: usize = 4_000;

/// Orphaned leaves that one manifest may say it carries again. 16 links of 36 bytes leave room in a manifest.
pub const REAPPLIED_LEAVES: usize = 16;

/// A stored block, sealed. Twice the largest chunk: room for other writers' chunk sizes, and a bound on what one
/// peer can make us hold.
pub const BLOCK_BYTES: usize = 2 << 20;

/// What a node aims at, encoded and before sealing: one edit rewrites a few of these.
pub const NODE_BYTES: usize = 16 << 10;

/// Links in one node. A 16 KiB node of nothing but extents holds about 400; a peer's may be 40 times that.
pub const NODE_LINKS: usize = 16_384;

/// Depth of a tree of nodes. With a fan-out of at least 2 this is more than any number of entries that can exist.
pub const TREE_DEPTH: usize = 48;

/// A name in a directory, as POSIX has it (`NAME_MAX`).
pub const NAME_BYTES: usize = 255;

/// The target of a symbolic link (`PATH_MAX`, less its NUL).
pub const SYMLINK_BYTES: usize = 4_095;

/// All extended attributes of one file together, names and values; ext4 allows about as much with a 4 KiB block,
/// and the kernel no value above 64 KiB.
pub const XATTR_BYTES: usize = 64 << 10;

/// The name of a bucket or a device.
pub const LABEL_BYTES: usize = 128;

/// Members of a bucket. A member is about 400 bytes, and the list is one block.
pub const MEMBERS: usize = 4_096;

/// The largest file. Offsets in FUSE are signed 64-bit.
pub const FILE_BYTES: u64 = i64::MAX as u64;

/// Former epochs in a member list: 32 bytes each, so that with all the members the list still is one block.
pub const FORMER_EPOCHS: u64 = 4_096;

/// The largest finality depth that a genesis may ask for. Beyond this, no fork is ever over.
pub const FINALITY_DEPTH: u64 = 10_000;

/// Manifests that wait for a parent or a member list. Each is at most [`MANIFEST_BYTES`]: 16 MB in all.
pub const PENDING_MANIFESTS: usize = 4_096;

/// Manifests that one author announced and that wait for their turn, and those of all: 16 MB.
pub const DEFERRED_PER_AUTHOR: usize = 256;
/// See [`DEFERRED_PER_AUTHOR`].
pub const DEFERRED_MANIFESTS: usize = 4_096;

/// Manifests of one author that are looked at as fast as they are announced, and how long the next one takes then, in
/// milliseconds. A device publishes once in 10 ms at most, and every 200 ms while it is busy.
pub const ANNOUNCED_AT_ONCE: u64 = 200;
/// See [`ANNOUNCED_AT_ONCE`].
pub const ANNOUNCED_EVERY_MS: u64 = 50;

/// Tips that one author may add by announcing. An honest one has one or two: it builds on what it shows.
pub const TIPS_PER_AUTHOR: usize = 16;

/// Stale manifests that one author may add by announcing: 40 MB at most.
pub const ARCHIVED_PER_AUTHOR: usize = 10_000;

/// Tips that members tell each other at once, the greatest: 2 KiB.
pub const HEADS_TIPS: usize = 48;

/// Links in a question for history: some 30 for a million ancestors, and as many for other leaves.
pub const LOCATOR_LINKS: usize = 64;

/// Manifests and member lists in one question.
pub const WANTS: usize = 64;

/// What a peer is remembered not to have. More are asked for once more.
pub const LACKS: usize = 4_096;

/// This device's orphans that are remembered to bring nothing new. One that is forgotten is looked at again.
pub const SETTLED_LEAVES: usize = 4_096;

/// How often connected members tell each other their heads, in milliseconds.
pub const EXCHANGE_EVERY_MS: u64 = 30_000;

/// How often a member that passes on what is stale is told our heads, in milliseconds.
pub const TELL_EVERY_MS: u64 = 1_000;

/// How long an answer with history may take, in milliseconds: 100,000 manifests at 1 MB/s.
pub const FETCH_MS: u64 = 120_000;

/// How long nobody else is asked for the same, in milliseconds. One that is only slow has brought it by then.
pub const FETCH_SLOW_MS: u64 = 10_000;

/// How long a member that failed is not asked, in milliseconds: this, then twice as long, and so on.
pub const FETCH_FAILED_MS: u64 = 500;
/// See [`FETCH_FAILED_MS`]: and this at most.
pub const FETCH_FAILED_MOST_MS: u64 = 60_000;

/// How long two members may differ before it is called a hard fork, in milliseconds: four exchanges of heads.
pub const HARD_FORK_MS: u64 = 120_000;

/// A file that holds a key; ours have fewer than 200 bytes.
pub const KEY_FILE_BYTES: u64 = 1_024;

/// Memory for argon2id that a key file may ask for, in KiB: 1 GiB.
pub const KEY_FILE_MEMORY_KIB: u32 = 1 << 20;

/// Passes of argon2id that a key file may ask for.
pub const KEY_FILE_PASSES: u32 = 16;

/// Lanes of argon2id that a key file may ask for.
pub const KEY_FILE_LANES: u32 = 8;
/// Decoded nodes kept in memory: some 400 nodes of 16 KiB, or the upper levels of a directory of ten million.
pub const NODE_CACHE_BYTES: usize = 16 << 20;

/// Opened data blocks kept in memory unless the mount asks otherwise. The kernel's page cache is in front of it, so that
/// this only has to cover blocks that are being read in pieces.
pub const DATA_CACHE_BYTES: usize = 32 << 20;

/// A segment of the store. Large enough that ten million files need few descriptors, small enough to rewrite when most
/// of one is garbage.
pub const SEGMENT_BYTES: u64 = 256 << 20;

/// A segment is left once more than one part in this many of it is garbage: so the packs exceed what is alive by a third at
/// most, and giving back a byte moves fewer than three.
pub const GARBAGE_SHARE: u64 = 4;

/// Blocks that a collection of garbage can find to be needed: some 4 TiB of full chunks, and 2 GiB of memory.
pub const MARKED_BLOCKS: usize = 1 << 27;

/// Bytes that are written to a mounted bucket before garbage is collected in it without being asked: below that, there is
/// too little to gain.
pub const COLLECTED_UNASKED: u64 = 256 << 20;

/// And they are more than one part in this many of what is stored, so that the work is in proportion.
pub const COLLECTED_SHARE: u64 = 4;

/// Blocks whose rows go in one transaction: a few milliseconds in which other commits wait.
pub const DROPPED_AT_ONCE: usize = 4_096;

/// Bytes of blocks that are moved before they are committed: what a crash makes a collection do again, and a bound on its
/// memory for their places.
pub const MOVED_AT_ONCE: u64 = 32 << 20;

/// Memory that the store's index may use as cache.
pub const INDEX_CACHE_BYTES: usize = 8 << 20;

/// The longest path that a walk over a version follows. Deeper ones exist only where someone made them on purpose: the
/// kernel takes paths of 4,096 bytes, and a walker by descriptors that goes deeper still gets there, name by name.
pub const PATH_BYTES: usize = 64 << 10;

/// What one journal entry holds before it is continued in the next.
pub const JOURNAL_ENTRY_BYTES: usize = 256 << 10;

/// A file of the journal. It is read in one piece.
pub const JOURNAL_FILE_BYTES: u64 = 4 << 20;

/// Files of the journal. When they are full, a version is made durable.
pub const JOURNAL_FILES: usize = 16;

/// How long somebody who reads waits for content that is on other machines: then it is an error, since a process that waits
/// for a file can not be ended.
pub const FETCH_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a change of the members waits for a mount to move to the version that they are to be changed in.
pub const SETTLE: std::time::Duration = std::time::Duration::from_secs(10);
