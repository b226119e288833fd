//! A device and a bucket as the network knows them: an endpoint's identity, and a topic's name. Nothing here opens a socket.

use iroh::{EndpointId, SecretKey};

use crate::bucket::{DeviceId, DeviceKey};
use crate::crypto::Secret;

/// The network identity of a device: its signing key, so that an address is proof of who answers.
pub fn endpoint_key(device: &DeviceKey) -> SecretKey {
    SecretKey::from_bytes(&device.signing_seed())
}

/// The network address of a device; `None` if its id is no point of the curve.
pub fn endpoint_id(device: &DeviceId) -> Option<EndpointId> {
    EndpointId::from_bytes(&device.0).ok()
}

/// The device at an address.
pub fn device_id(endpoint: &EndpointId) -> DeviceId {
    DeviceId(*endpoint.as_bytes())
}

/// The 32 bytes of the gossip topic of one epoch of a bucket. Only who has the epoch's network secret knows them, and a
/// removed member does not learn the next ones.
pub fn topic_id(network: &Secret) -> [u8; 32] {
    *network.derive("jaxfs v0 gossip topic").expose()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_the_id_of_its_device_and_signs_as_it() {
        let device = DeviceKey::from_bytes(&[5; 64]);
        let endpoint = endpoint_key(&device);
        assert_eq!(endpoint.public(), endpoint_id(&device.id()).unwrap());
        assert_eq!(endpoint.public().as_bytes(), &device.id().0);
        let signature = iroh::Signature::from_bytes(&device.sign("test", b"message").0);
        assert!(endpoint.public().verify(b"test\0message", &signature).is_ok());
    }

    #[test]
    fn bytes_that_are_no_point_have_no_address() {
        let bad = (0..=u8::MAX).map(|byte| DeviceId([byte; 32])).filter(|id| endpoint_id(id).is_none());
        assert!(bad.count() > 0);
    }

    #[test]
    fn each_epoch_has_its_own_topic_and_the_topic_does_not_show_the_secret() {
        let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
        assert_eq!(topic_id(&old), topic_id(&old));
        assert_ne!(topic_id(&old), topic_id(&new));
        assert_ne!(&topic_id(&old), old.expose());
    }
}
