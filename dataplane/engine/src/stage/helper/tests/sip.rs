//! Calls through NAT: media are found from both ends at every worker, and leave by the ports that were announced.

use super::*;

const SIP: Assigned = Assigned { helper: Helper::Sip, loose: false };

/// A message with media at an address and port.
fn message(start: &str, address: &str, port: u16) -> Vec<u8> {
    let body =
        format!("v=0\r\no=- 1 1 IN IP4 {address}\r\nc=IN IP4 {address}\r\nm=audio {port} RTP/AVP 0\r\n");
    let head = format!(
        "{start}\r\nVia: SIP/2.0/UDP {address}:5060\r\nCSeq: 1 INVITE\r\nContent-Length: {}",
        body.len()
    );
    format!("{head}\r\n\r\n{body}").into_bytes()
}

fn body(fate: &Fate) -> String {
    let packet = fate.packet();
    String::from_utf8(fate.bytes[usize::from(packet.l4) + 8..packet.end.into()].to_vec()).unwrap()
}

#[test]
fn media_are_found_from_both_ends_at_every_worker() {
    let mut team = Router::team::<4>().map(|router| snat(guarded(router, SIP, 5060)).ready());
    for n in 0..12u16 {
        let (client, at) = (format!("10.1.0.{}", 2 + n % 8), usize::from(n) % 4);
        let (up, down) = (between(CLI, &client, SERVER), between(SRV, SERVER, OUTER));
        let invite = udp(&up, (6000 + n, 5060), &message("INVITE sip:b@10.2.0.2 SIP/2.0", &client, 30000));
        let (_, fate) = give(&mut team, at, CLI, &invite);
        let text = body(&fate);
        assert!(text.contains("c=IN IP4 10.2.0.100\r\n"), "{text}");
        let port =
            text.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
        let answer = udp(&down, (5060, 6000 + n), &message("SIP/2.0 200 OK", SERVER, 40000 + 2 * n));
        assert!(passes(give(&mut team, (at + 1) % 4, SRV, &answer).1.verdict));
        for at in 0..4 {
            let (_, fate) = give(&mut team, at, SRV, &udp(&down, (40000 + 2 * n, port), b"sound"));
            assert_eq!(
                (fate.packet().addrs.dst(), fate.packet().ports()),
                (ip(&client), Some((40000 + 2 * n, 30000)))
            );
            // Control begins inside: it leaves by the port that was announced, whichever that is.
            let control = udp(&up, (30001, 40001 + 2 * n), b"report");
            let (_, fate) = give(&mut team, at, CLI, &control);
            assert_eq!(
                (fate.packet().addrs.src(), fate.packet().ports()),
                (ip(OUTER), Some((port + 1, 40001 + 2 * n)))
            );
        }
        let stranger = udp(&between(SRV, "10.2.0.3", OUTER), (40000, port), b"sound");
        assert!(!passes(give(&mut team, at, SRV, &stranger).1.verdict), "{n}");
    }
}
