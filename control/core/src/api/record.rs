//! A line in the log for each change that was asked for: who, from where, what, and what came of it.

use std::fmt::Display;

use crate::actor::Actor;

/// Makes a change, and logs it.
pub(super) async fn recorded<T, E: Display>(
    actor: &Actor,
    what: String,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let result = work.await;
    match &result {
        Ok(_) => log(actor, &what, "done"),
        Err(error) => log(actor, &what, &format!("refused: {error}")),
    }
    result
}

/// Logs a change, or that one was not permitted.
pub(super) fn log(actor: &Actor, what: &str, result: &str) {
    tracing::info!(target: "sluice::change", who = actor.who(), from = actor.from(), what, result, "change");
}
