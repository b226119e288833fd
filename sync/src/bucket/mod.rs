//! x
pub struct DeviceKey;
