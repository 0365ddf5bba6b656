//! Locks of the control thread's own state.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. All holders run on one thread and never wait while they hold it, so this never waits either; a holder that
/// panicked left values that are whole, since each change is one assignment. (Places of remote connections are counted on
/// two threads; their holders do nothing but count.)
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
