//! Flows told to an IPFIX collector as they begin and end, over UDP, from the box's own sockets.
//!
//! It is one of those who watch flows ([`crate::watch`]); while `ipfix:` is not set nobody does, and workers make no events for it.
//! Nothing waits for the collector: what the socket does not take is lost, and so is what comes faster than it can be told;
//! both are counted. The stream to the collector is a flow like any other, and told once.
//!
//! Source: RFC 7011 sections 8.1 (templates over UDP) and 10.3 (UDP); RFC 8158 (translations).

mod message;
mod template;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluice_config::system::Ipfix;
use sluice_engine::conntrack::{EventKind, EventKinds};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};

use crate::control::{Control, unix_seconds};
use crate::watch::{Item, Told};
use message::Exporter;

/// How long a message that is not full waits for more.
const WAIT: Duration = Duration::from_millis(200);

/// How long to wait before trying again what failed.
const REST: Duration = Duration::from_secs(5);

/// What became of what was to be told.
#[derive(Debug, Default)]
pub(crate) struct Exported {
    /// Flows' beginnings and ends in messages that were sent.
    pub(crate) records: AtomicU64,
    /// Messages that were sent.
    pub(crate) messages: AtomicU64,
    /// Beginnings and ends that were lost: they came too fast, or their message could not be sent.
    pub(crate) lost: AtomicU64,
}

/// Exports for as long as the daemon runs, whenever the system file says so.
pub(crate) async fn run(control: Arc<Control>) {
    loop {
        let Some(config) = control.ipfix_config() else {
            control.ipfix_changed.notified().await;
            continue;
        };
        if let Err(error) = export(&control, &config).await {
            tracing::warn!("ipfix to {}: {error}; again in {} s", config.collector, REST.as_secs());
            // What is wrong may be what the file says.
            let _ = timeout(REST, control.ipfix_changed.notified()).await;
        }
    }
}

/// Exports until the system file says otherwise.
async fn export(control: &Arc<Control>, config: &Ipfix) -> std::io::Result<()> {
    let socket = open(config.collector).await?;
    let kinds = EventKinds::default().with(EventKind::New).with(EventKind::Destroy);
    let mut watcher = control.watchers.join(kinds).await.map_err(std::io::Error::other)?;
    let mut exporter = Exporter::new(config.domain);
    let mut link = Link { socket, told: &control.exported, refused: false };
    let mut waits = interval(WAIT);
    waits.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Not at once: a worker that has not heard yet that somebody watches would not tell of this very stream.
    let mut templates = interval_at(Instant::now() + WAIT, Duration::from_secs(config.templates.into()));
    loop {
        tokio::select! {
            item = watcher.next() => match item {
                Some(Item::Event(_, time, Told::Flow(event))) => {
                    if exporter.is_full() {
                        link.send(exporter.finish(unix_seconds()));
                    }
                    exporter.add(&event, time / 1000);
                }
                Some(Item::Event(..)) => {}
                Some(Item::Lost(lost)) => {
                    control.exported.lost.fetch_add(lost, Ordering::Relaxed);
                }
                None => return Err(std::io::Error::other("there are no events any more")),
            },
            _ = templates.tick() => {
                link.send(exporter.finish(unix_seconds()));
                for message in exporter.templates(unix_seconds()) {
                    link.send(Some((message, 0)));
                }
            }
            _ = waits.tick() => link.send(exporter.finish(unix_seconds())),
            () = control.ipfix_changed.notified() => {
                if control.ipfix_config().as_ref() != Some(config) {
                    link.send(exporter.finish(unix_seconds()));
                    return Ok(());
                }
            }
        }
    }
}

async fn open(collector: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match collector {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(collector).await?;
    Ok(socket)
}

/// The way to the collector.
struct Link<'a> {
    socket: UdpSocket,
    told: &'a Exported,
    /// The last message could not be sent: said once.
    refused: bool,
}

impl Link<'_> {
    /// Sends a message with so many records, or loses it.
    fn send(&mut self, message: Option<(Vec<u8>, u32)>) {
        let Some((message, records)) = message else { return };
        match self.socket.try_send(&message) {
            Ok(_) => {
                self.refused = false;
                self.told.messages.fetch_add(1, Ordering::Relaxed);
                self.told.records.fetch_add(records.into(), Ordering::Relaxed);
            }
            Err(error) => {
                self.told.lost.fetch_add(records.into(), Ordering::Relaxed);
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::warn!("ipfix: a message could not be sent: {error}");
                }
            }
        }
    }
}
