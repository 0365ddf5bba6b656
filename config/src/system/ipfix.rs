//! `ipfix:`: a collector that is told of flows as they begin and end.

use std::net::SocketAddr;

use crate::decode::Reader;
use crate::diagnostics::ValueError;
use crate::yaml::Node;

/// Seconds between two times that templates are sent, where the file does not say.
const TEMPLATES: u32 = 60;

/// `ipfix:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipfix {
    /// Where messages go, over UDP from the box's own sockets.
    pub collector: SocketAddr,
    /// The observation domain: tells routers that report to one collector apart.
    pub domain: u32,
    /// How often templates are sent again, in seconds.
    pub templates: u32,
}

/// Reads the section; None if there is no collector in it.
pub(super) fn decode<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Ipfix> {
    let fields = reader.fields(node, "`ipfix`", &["collector", "domain", "templates"])?;
    let collector = fields.require(reader, "`ipfix`", "collector")?;
    let collector = reader.parsed(collector, "`collector`", |text| {
        let wrong = |_| ValueError::new(format!("`{text}` is no ADDRESS:PORT (192.0.2.9:4739)"));
        text.parse().map_err(wrong)
    });
    let mut number = |key: &str, least, most, default| {
        let given = fields.get(key).and_then(|node| reader.number(node, &format!("`{key}`"), least, most));
        given.unwrap_or(default)
    };
    let (domain, templates) = (number("domain", 0, u32::MAX, 1), number("templates", 1, 86_400, TEMPLATES));
    Some(Ipfix { collector: collector?, domain, templates })
}
