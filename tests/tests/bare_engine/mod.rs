//! The engine without a worker: one frame in, and what becomes of it. Shared by the test programs beside this folder.

use sluice_engine::conntrack::{FlowFilter, LineOptions};
use sluice_engine::ids::{InterfaceId, Now, PortId};
use sluice_engine::message::{Cursor, LogRecord};
use sluice_engine::world::NeighbourKey;
use sluice_engine::{Engine, Frame, Origin, Outbox, Outlet, RxChecksum, Verdict};

/// Bytes before a frame, as mbufs have them.
const HEADROOM: usize = 128;

/// What became of a frame.
pub struct Fate {
    /// The engine's verdict.
    pub verdict: Verdict,
    /// The frame, from its Ethernet header on, as it is now.
    pub bytes: Vec<u8>,
    /// Frames that the engine sent besides.
    pub sent: Vec<(Outlet, Vec<u8>)>,
}

/// Has the engine judge a frame that arrived at a port, of whose checksums the device says nothing.
pub fn judge(engine: &mut Engine, now: Now, port: PortId, origin: Origin, bytes: &[u8]) -> Fate {
    let mut buffer = vec![0; HEADROOM + bytes.len() + 64];
    buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
    let mut sent = Sent::default();
    let mut frames = [Frame {
        buffer: &mut buffer,
        start: HEADROOM as u16,
        len: bytes.len() as u16,
        port,
        origin,
        ingress: None,
        egress: None,
        rss: None,
        ip_checksum: RxChecksum::Unknown,
        l4_checksum: RxChecksum::Unknown,
        verdict: Verdict::Pending,
    }];
    engine.process(now, &mut frames, &mut sent);
    let [frame] = frames;
    Fate { verdict: frame.verdict, bytes: frame.bytes().to_vec(), sent: sent.0 }
}

/// The table as `conntrack -L -o extended` prints it.
pub fn flows(engine: &mut Engine, now: Now) -> Vec<String> {
    let options = LineOptions { extended: true, ..LineOptions::default() };
    let (mut lines, mut cursor) = (Vec::new(), Some(Cursor::default()));
    while let Some(at) = cursor {
        let mut batch = Vec::with_capacity(64);
        cursor = engine.conntrack().list(now, at, &FlowFilter::default(), &mut batch);
        lines.extend(batch.iter().map(|flow| flow.line(options).to_string()));
    }
    lines
}

/// Takes what the engine sends besides.
#[derive(Default)]
pub struct Sent(pub Vec<(Outlet, Vec<u8>)>);

impl Outbox for Sent {
    fn frame(&mut self, outlet: Outlet, len: usize) -> Option<&mut [u8]> {
        self.0.push((outlet, vec![0; len]));
        self.0.last_mut().map(|(_, bytes)| bytes.as_mut_slice())
    }

    fn resolve(&mut self, _: NeighbourKey) {}

    fn log(&mut self, _: &LogRecord) {}

    fn punt(&mut self, _: InterfaceId, _: &[u8]) -> bool {
        true
    }
}
