//! Tunnels of PPTP: found from both ends at every worker, and gone with their call.

use super::*;

const PPTP: Assigned = Assigned { helper: Helper::Pptp, loose: false };

/// A message of a type and length: the words behind the header, and zeroes.
fn message(number: u16, length: u16, words: &[u16]) -> Vec<u8> {
    let mut bytes = [length, 1, 0x1a2b, 0x3c4d, number, 0].map(u16::to_be_bytes).concat();
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    bytes.resize(length.into(), 0);
    bytes
}

/// A packet of a tunnel: GRE version 1 with the receiver's id of the call.
fn tunnel((from, src, dst): (InterfaceId, &str, &str), call: u16) -> Vec<u8> {
    let mut bytes = udp(&between(from, src, dst), (0x3001, 0x880b), &[0; 8]);
    bytes[14 + 9] = Protocol::GRE.0;
    bytes[14 + 20 + 4..14 + 20 + 8].copy_from_slice(&[[0, 8], call.to_be_bytes()].concat());
    let sum = {
        bytes[24..26].fill(0);
        sluice_wire::checksum::plain(&bytes[14..34])
    };
    bytes[24..26].copy_from_slice(&sum);
    bytes
}

fn call_id(fate: &Fate) -> u16 {
    match fate.packet().transport {
        sluice_wire::Transport::Gre { call_id, .. } => call_id,
        other => panic!("{other:?}"),
    }
}

/// Opens a control connection and a call, each packet at another worker than the one before; `outer` is how the server knows
/// the client, by address and call id.
fn call<const N: usize>(team: &mut [Router; N], port: u16, (address, id): (&str, u16)) {
    let (up, down) = ((CLI, CLIENT, SERVER), (SRV, SERVER, address));
    let (client, server) = ((port, 1723), (1723, port));
    let start = [message(1, 156, &[0x100]), message(2, 156, &[0x100, 0x100])];
    let call = [message(7, 168, &[port ^ 1]), message(8, 32, &[7, id, 0x100])];
    let (sent, heard) = (1001 + start[0].len() as u32, 5001 + start[1].len() as u32);
    let steps = [
        (CLI, segment(up, client, SYN, (1000, 0), b"")),
        (SRV, segment(down, server, SYN.union(ACK), (5000, 1001), b"")),
        (CLI, segment(up, client, PUSH, (1001, 5001), &start[0])),
        (SRV, segment(down, server, PUSH, (5001, sent), &start[1])),
        (CLI, segment(up, client, PUSH, (sent, heard), &call[0])),
        (SRV, segment(down, server, PUSH, (heard, sent + call[0].len() as u32), &call[1])),
    ];
    for (n, (from, bytes)) in steps.iter().enumerate() {
        assert!(passes(give(team, n % N, *from, bytes).1.verdict), "step {n}");
    }
}

#[test]
fn a_tunnel_is_found_from_both_ends_at_every_worker() {
    for nat in [false, true] {
        let mut team = Router::team::<4>().map(|router| {
            let router = guarded(router, PPTP, 1723);
            if nat { snat(router) } else { router }.ready()
        });
        for port in 40000..40012u16 {
            let (outer, id) = if nat { (OUTER, port) } else { (CLIENT, port ^ 1) };
            call(&mut team, port, (outer, id));
            for at in 0..4 {
                let (_, fate) = give(&mut team, at, SRV, &tunnel((SRV, SERVER, outer), id));
                assert!(passes(fate.verdict), "{port} from the server at {at}, nat {nat}");
                assert_eq!((fate.packet().addrs.dst(), call_id(&fate)), (ip(CLIENT), port ^ 1));
                let (_, fate) = give(&mut team, at, CLI, &tunnel((CLI, CLIENT, SERVER), 7));
                assert!(passes(fate.verdict), "{port} from the client at {at}, nat {nat}");
                assert_eq!((fate.packet().addrs.src(), call_id(&fate)), (ip(outer), 7));
            }
            let (_, fate) = give(&mut team, 0, SRV, &tunnel((SRV, SERVER, outer), id ^ 0x100));
            assert!(!passes(fate.verdict), "another call");
            // The next one may have the same id of the server.
            let bye = segment((CLI, CLIENT, SERVER), (port, 1723), TcpFlags::RST, (1001 + 156 + 168, 0), b"");
            give(&mut team, 0, CLI, &bye);
            for router in &mut team {
                router.wait(11);
                let now = Now::from_nanos(router.nanos);
                router.engine.conntrack().expire(now, &crate::conntrack::Settings::default(), 1000);
            }
            let (_, fate) = give(&mut team, 0, CLI, &tunnel((CLI, CLIENT, SERVER), 7));
            assert!(!passes(fate.verdict), "gone with its control connection");
        }
    }
}
