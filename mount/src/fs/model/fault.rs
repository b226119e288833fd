//! Steps of a write-back at which a test may do something else, or have it fail.

use std::cell::RefCell;
use std::path::PathBuf;

use jaxfs_sync::store::StoreError;
use jaxfs_sync::tree::TreeError;

/// Called at every step; whether the step fails.
type Hook = Box<dyn FnMut() -> bool>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// A step of a write-back on this thread.
pub(in crate::fs) fn point() -> Result<(), TreeError> {
    let Some(mut hook) = HOOK.take() else { return Ok(()) };
    let fails = hook();
    HOOK.set(Some(hook));
    if fails { Err(StoreError::Full(PathBuf::from("a test")).into()) } else { Ok(()) }
}

/// Has `hook` called at every step while `run` runs.
pub(super) fn with<T>(hook: impl FnMut() -> bool + 'static, run: impl FnOnce() -> T) -> T {
    HOOK.set(Some(Box::new(hook)));
    let result = run();
    HOOK.set(None);
    result
}
