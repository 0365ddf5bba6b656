//! `sluice capture`: packets seen or dropped, as pcapng for tcpdump and Wireshark.
//!
//! The daemon sends the file as it is to be, and how many packets there were again and again; of that, only the last is
//! written, where the file ends. A file always ends with a whole block.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use sluice_api::CaptureRequest;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::packet_filter::FilterArgs;
use crate::{Failure, Outcome};

/// How long the last numbers are waited for.
const LAST_NUMBERS: Duration = Duration::from_secs(2);

/// Kinds of blocks, and the options of the statistics. Source: draft-ietf-opsawg-pcapng.
const PACKET: u32 = 6;
const STATISTICS: u32 = 5;
const ACCEPTED: u16 = 6;
const LOST: u16 = 7;

/// Bytes that no block of the daemon's has.
const LONGEST_BLOCK: u32 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// The file to write; -: standard output.
    #[arg(short, long, value_name = "FILE")]
    write: String,
    /// Only packets that are dropped, or dropped and answered; the reason is their comment.
    #[arg(long)]
    drops: bool,
    /// End after so many packets.
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Bytes of each packet that are kept; 0: all.
    #[arg(short, long, value_name = "BYTES", default_value_t = 0)]
    snaplen: u32,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What is told in the end.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    /// Packets in the file.
    packets: u64,
    /// Packets that matched.
    matched: u64,
    /// Those of them that the daemon had no room for.
    lost: u64,
}

/// Captures until interrupted, or until there are enough.
pub(crate) async fn capture(client: &Client, args: &CaptureArgs, json: bool) -> Outcome {
    let to_stdout = args.write == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::No(Some(
            "that is a terminal: write to a file, or pipe it into tcpdump -r -".into(),
        )));
    }
    let request = CaptureRequest { filter: args.filter.compile()?, drops: args.drops, snaplen: args.snaplen };
    let mut stream = client.stream("/v1/capture", &request).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut file = Blocks::new(open(&args.write)?, args.count);
    let mut deadline = None;
    while !(file.full && file.has_last_numbers()) {
        if file.full && deadline.is_none() {
            deadline = Some(Instant::now() + LAST_NUMBERS);
        }
        let far = Instant::now() + Duration::from_secs(3600);
        let data = tokio::select! {
            data = timeout_at(deadline.unwrap_or(far), stream.next()) => data,
            _ = interrupt.recv(), if !file.full => { file.stop(); continue }
            _ = terminate.recv(), if !file.full => { file.stop(); continue }
        };
        match data {
            Ok(data) => match data? {
                Some(data) => file.take(&data)?,
                None => break,
            },
            Err(_) if deadline.is_some() => break,
            Err(_) => {}
        }
        if stream.is_idle() {
            file.flush()?;
        }
    }
    let summary = file.finish()?;
    let text = if json {
        serde_json::to_string(&summary).map_err(|e| Failure::CouldNotAsk(e.to_string()))?
    } else {
        let Summary { packets, matched, lost } = summary;
        format!("{packets} packets captured of {matched} that matched, {lost} lost")
    };
    if json && !to_stdout { crate::print::print_line(&text) } else { told(&text) }
}

fn told(text: &str) -> Outcome {
    eprintln!("{text}");
    Ok(())
}

fn open(path: &str) -> Result<Box<dyn Write>, Failure> {
    if path == "-" {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let file = File::create(path).map_err(|e| Failure::No(Some(format!("{path}: {e}"))))?;
    Ok(Box::new(BufWriter::with_capacity(256 << 10, file)))
}

/// A file, block by block.
struct Blocks {
    to: Box<dyn Write>,
    /// The beginning of a block that has not come whole.
    rest: Vec<u8>,
    /// Packets that it may have.
    limit: u64,
    /// It takes no more packets.
    full: bool,
    /// The last numbers of each interface; emptied when it is full, so that later ones are waited for.
    statistics: BTreeMap<u32, Vec<u8>>,
    packets: u64,
}

impl Blocks {
    fn new(to: Box<dyn Write>, limit: Option<u64>) -> Blocks {
        Blocks {
            to,
            rest: Vec::new(),
            limit: limit.unwrap_or(u64::MAX),
            full: limit == Some(0),
            statistics: BTreeMap::new(),
            packets: 0,
        }
    }

    fn stop(&mut self) {
        self.full = true;
        self.statistics.clear();
    }

    fn has_last_numbers(&self) -> bool {
        !self.statistics.is_empty()
    }

    fn take(&mut self, data: &[u8]) -> Outcome {
        self.rest.extend_from_slice(data);
        let all = std::mem::take(&mut self.rest);
        let mut left = all.as_slice();
        while let Some((block, behind)) = split(left)? {
            self.block(block)?;
            left = behind;
        }
        self.rest = left.to_vec();
        Ok(())
    }

    fn block(&mut self, block: &[u8]) -> Outcome {
        match word(block, 0) {
            Some(STATISTICS) => {
                self.statistics.insert(word(block, 8).unwrap_or(0), block.to_vec());
                Ok(())
            }
            Some(PACKET) if self.full => Ok(()),
            kind => {
                written(self.to.write_all(block))?;
                if kind == Some(PACKET) {
                    self.packets += 1;
                    if self.packets >= self.limit {
                        self.stop();
                    }
                }
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Outcome {
        written(self.to.flush())
    }

    fn finish(mut self) -> Result<Summary, Failure> {
        let mut summary = Summary { packets: self.packets, ..Summary::default() };
        for block in self.statistics.values() {
            summary.matched += number(block, ACCEPTED).unwrap_or(0);
            summary.lost += number(block, LOST).unwrap_or(0);
            written(self.to.write_all(block))?;
        }
        written(self.to.flush())?;
        Ok(summary)
    }
}

/// A reader that went away (`| head`) ends the program quietly.
fn written(result: io::Result<()>) -> Outcome {
    match result {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Failure::CouldNotAsk(format!("cannot write the capture: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// A block, and what is behind it.
type Split<'b> = (&'b [u8], &'b [u8]);

/// The first whole block of `bytes`; None if it has not come whole.
fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, Failure> {
    let Some(length) = word(bytes, 4) else { return Ok(None) };
    if !(12..=LONGEST_BLOCK).contains(&length) || length % 4 != 0 {
        return Err(Failure::CouldNotAsk("the daemon's answer is no pcapng".into()));
    }
    Ok(bytes.split_at_checked(length as usize))
}

/// A 64-bit option of a statistics block, whose options begin at byte 20.
fn number(block: &[u8], wanted: u16) -> Option<u64> {
    let mut rest = block.get(20..)?;
    loop {
        let header = word(rest, 0)?;
        let (code, length) = (header as u16, (header >> 16) as usize);
        let value = rest.get(4..4 + length)?;
        if code == wanted {
            return Some(u64::from_le_bytes(value.try_into().ok()?));
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
}

/// The little-endian number at a place.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &length, body, &length].concat()
    }

    fn statistics(matched: u64, lost: u64) -> Vec<u8> {
        let mut body = vec![0; 12];
        for (code, value) in [(ACCEPTED, matched), (LOST, lost)] {
            body.extend([code.to_le_bytes(), 8_u16.to_le_bytes()].concat());
            body.extend(value.to_le_bytes());
        }
        block(STATISTICS, &[body, vec![0; 4]].concat())
    }

    #[test]
    fn a_file_has_whole_blocks_so_many_packets_and_the_last_numbers() {
        let (head, packet) = (block(0x0A0D_0D0A, &[0; 16]), block(PACKET, &[7; 24]));
        let stream =
            [&head[..], &packet, &statistics(1, 0), &packet, &packet, &statistics(9, 6), &packet].concat();
        for step in [1, 7, 1000] {
            let kept = Kept::default();
            let mut file = Blocks::new(Box::new(kept.clone()), Some(2));
            stream.chunks(step).for_each(|data| file.take(data).unwrap());
            assert!(file.full && file.has_last_numbers());
            assert_eq!(file.finish().unwrap(), Summary { packets: 2, matched: 9, lost: 6 });
            assert_eq!(
                *kept.0.lock().unwrap(),
                [head.clone(), packet.clone(), packet.clone(), statistics(9, 6)].concat()
            );
        }
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        let mut file = Blocks::new(Box::new(io::sink()), None);
        assert!(file.take(b"<html><head></head></html>").is_err());
    }
}
