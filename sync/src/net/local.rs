//! What the network needs of a bucket on this machine, whether it can be read here or not.

use std::sync::Arc;

use crate::chain::{Input, Output};
use crate::link::Link;
use crate::publish::{Bucket, BucketError, Reapplied, Replica};
use crate::tree::Supplier;

/// A bucket on this machine.
pub trait Local: Send + Sync {
    /// Its chain and blocks.
    fn replica(&self) -> &Arc<Replica>;

    /// Has what is missing asked for there, by whoever reads it; or nowhere.
    fn set_supplier(&self, supplier: Option<Arc<dyn Supplier>>);

    /// Takes in what happened; see [`Replica::receive`]. Blocks.
    ///
    /// # Errors
    /// If it can not be stored.
    fn receive(&self, inputs: Vec<Input>) -> Result<Vec<Output>, BucketError>;

    /// All nodes of a version are here; see [`Replica::complete`]. Blocks.
    ///
    /// # Errors
    /// If they are not, or can not be made durable.
    fn complete(&self, version: &Link) -> Result<Vec<Output>, BucketError>;

    /// Brings back this device's work that lost; see [`Bucket::reapply`]. Blocks.
    ///
    /// # Errors
    /// If it can not be read or stored.
    fn reapply(&self) -> Result<Reapplied, BucketError>;
}

impl Local for Arc<Replica> {
    fn replica(&self) -> &Arc<Replica> {
        self
    }

    /// Nobody reads it.
    fn set_supplier(&self, _supplier: Option<Arc<dyn Supplier>>) {}

    fn receive(&self, inputs: Vec<Input>) -> Result<Vec<Output>, BucketError> {
        Replica::receive(self, inputs)
    }

    fn complete(&self, version: &Link) -> Result<Vec<Output>, BucketError> {
        Replica::complete(self, version)
    }

    /// Nobody writes here.
    fn reapply(&self) -> Result<Reapplied, BucketError> {
        Ok(Reapplied::Nothing)
    }
}

impl Local for Bucket {
    fn replica(&self) -> &Arc<Replica> {
        Bucket::replica(self)
    }

    fn set_supplier(&self, supplier: Option<Arc<dyn Supplier>>) {
        self.vault().set_supplier(supplier);
    }

    fn receive(&self, inputs: Vec<Input>) -> Result<Vec<Output>, BucketError> {
        Bucket::receive(self, inputs)
    }

    fn complete(&self, version: &Link) -> Result<Vec<Output>, BucketError> {
        Bucket::complete(self, version)
    }

    fn reapply(&self) -> Result<Reapplied, BucketError> {
        Bucket::reapply(self)
    }
}
