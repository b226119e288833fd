//! Many nodes of one bucket in virtual time: the chain's and the gossip's real code in a simulated world.
//!
//! A node is a [`jaxfs_sync::chain::Chain`], an `iroh_gossip::proto::State` and a simulated [`disk`]. Both protocols are
//! pure values: they are given what happens and say what is to be done, so that everything else can be simulated: the
//! clock, the [`links`], crashes, and nodes that do not keep to the protocol ([`villains`]). [`sim`] is the world,
//! [`react`] the one place where a node does what its chain wants done, [`faults`] says what goes wrong and when,
//! [`check`] what has to hold meanwhile and in the end, [`run`] puts them together.
//!
//! Always true: all chance comes from one seed ([`dice`]), all maps are ordered, and there is no clock but the [`queue`]'s.
//! The same seed gives the same run, byte for byte. Never here: blocks, mounts, real sockets.

pub mod cast;
pub mod check;
pub mod dice;
pub mod disk;
pub mod faults;
mod gossip;
pub mod links;
pub mod meter;
pub mod node;
mod peers;
pub mod plot;
pub mod queue;
pub mod react;
pub mod run;
pub mod scale;
pub mod sim;
pub mod trace;
pub mod villains;
pub mod wire;
