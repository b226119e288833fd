//! What happened, as one hash, and for people line by line.

use std::io::{self, Write};

use crate::cast::NodeId;
use crate::queue::{MS, Micros};

/// Everything that happened so far.
#[derive(Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    steps: u64,
    /// Whether to print each line.
    pub print: bool,
}

impl Trace {
    /// Something happened: when, what kind of thing, to whom, and two numbers that tell it from others.
    pub fn note(&mut self, now: Micros, tag: u8, node: NodeId, a: u64, b: u64) {
        self.steps += 1;
        self.buffer.extend_from_slice(&now.to_le_bytes());
        self.buffer.push(tag);
        self.buffer.extend_from_slice(&node.to_le_bytes());
        self.buffer.extend_from_slice(&a.to_le_bytes());
        self.buffer.extend_from_slice(&b.to_le_bytes());
        if self.buffer.len() > 1 << 16 {
            self.flush();
        }
    }

    /// Says it, if anybody listens.
    pub fn say(&self, now: Micros, node: NodeId, what: impl FnOnce() -> String) {
        if self.print {
            // Whoever reads may have read enough.
            drop(writeln!(io::stdout(), "{:>10}.{:03} ms  {node:>3}  {}", now / MS, now % MS, what()));
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
    }

    /// How much happened.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The hash of all of it.
    pub fn hash(&mut self) -> String {
        self.flush();
        self.hasher.finalize().to_hex()[..32].to_owned()
    }
}
