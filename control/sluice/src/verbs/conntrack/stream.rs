//! What the daemon sends line by line: listings of any size, which take no memory here, and events until interrupted.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::NAME;
use crate::client::Client;
use crate::print::Printer;
use crate::{Failure, Outcome};

/// What a listing is of, and how the line that ends it begins: no entry has that field in front.
pub(super) struct Listing {
    /// In a sentence.
    pub(super) what: &'static str,
    /// Begins the last line.
    pub(super) end: &'static [u8],
}

/// Has each line of a listing printed by `show`; how many there were.
///
/// # Errors
/// The daemon could not be asked, or its answer lacks the end.
pub(super) async fn list(
    client: &Client,
    path: &str,
    request: &impl Serialize,
    listing: &Listing,
    show: impl Fn(&mut Printer, &[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let (mut shown, mut ended, mut out) = (0, false, Printer::new());
    let each = |text: Option<&[u8]>| {
        let Some(text) = text else { return out.flush() };
        if text.starts_with(listing.end) {
            ended = true;
            return Ok(());
        }
        shown += 1;
        show(&mut out, text)
    };
    client.lines(path, request, each).await?;
    if ended {
        return Ok(shown);
    }
    let what = listing.what;
    Err(Failure::CouldNotAsk(format!("the daemon's answer was cut short after {shown} {what}")))
}

/// What a line of events says.
pub(super) enum Told<E> {
    /// So many events were lost.
    Lost(u64),
    /// This happened.
    Event(E),
}

/// Prints events, as `read` reads them and `line` writes them, until interrupted, which is no failure.
pub(super) async fn watch<E>(
    client: &Client,
    path: &str,
    request: &impl Serialize,
    (what, json): (&str, bool),
    read: impl Fn(&[u8]) -> Result<Told<E>, Failure>,
    line: impl Fn(&E) -> String,
) -> Outcome {
    let (mut shown, mut out, mut losses) = (0u64, Printer::new(), Losses::default());
    let each = |text: Option<&[u8]>| {
        let Some(text) = text else { return out.flush() };
        match read(text)? {
            Told::Lost(lost) => {
                losses.add(lost);
                return if json { out.line(text) } else { Ok(()) };
            }
            Told::Event(_) if json => out.line(text)?,
            Told::Event(event) => out.line(line(&event).as_bytes())?,
        }
        shown += 1;
        Ok(())
    };
    let ended = tokio::select! {
        ended = client.lines(path, request, each) => ended,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    };
    losses.tell();
    eprintln!("{NAME}: {shown} {what} have been shown.");
    ended
}

/// Events that were lost, told at most once a second: who cannot read events fast enough is not to read about that.
#[derive(Default)]
struct Losses {
    untold: u64,
    told: Option<Instant>,
}

impl Losses {
    fn add(&mut self, lost: u64) {
        self.untold += lost;
        if self.told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        if self.untold > 0 {
            eprintln!("{NAME}: {} events lost: they came faster than they were read.", self.untold);
            (self.untold, self.told) = (0, Some(Instant::now()));
        }
    }
}
