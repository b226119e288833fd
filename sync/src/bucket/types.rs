//! Small types: public keys, signatures, heights, times. Each wraps bytes or a number that must not be taken for another.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type around an array, encoded as a byte string, shown in hexadecimal.
macro_rules! byte_string {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The first 8 hexadecimal digits, for people.
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde_bytes::ByteArray::<$len>::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
            }
        }
    };
}

byte_string! {
    /// A device: its ed25519 public key, which is also its address on the network.
    DeviceId, 32
}
byte_string! {
    /// The X25519 public key that secrets are sealed to for a device.
    SealingKey, 32
}
byte_string! {
    /// A bucket's owner: the ed25519 public key that signs its member lists.
    OwnerId, 32
}
byte_string! {
    /// An ed25519 signature over `context || 0 || message`.
    Signature, 64
}

impl DeviceId {
    /// Whether this device signed `message` in `context`.
    pub fn signed(&self, context: &'static str, message: &[u8], signature: &Signature) -> bool {
        verify(&self.0, context, message, signature)
    }
}

impl OwnerId {
    /// Whether the owner signed `message` in `context`.
    pub fn signed(&self, context: &'static str, message: &[u8], signature: &Signature) -> bool {
        verify(&self.0, context, message, signature)
    }
}

/// Strict: no small-order keys, no second form of a signature.
fn verify(key: &[u8; 32], context: &'static str, message: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&framed(context, message), &signature).is_ok())
}

/// What is signed: `context || 0 || message`. No context contains a 0.
pub(super) fn framed(context: &'static str, message: &[u8]) -> Vec<u8> {
    [context.as_bytes(), &[0], message].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hops to the genesis, which has height 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Height(pub u64);

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
