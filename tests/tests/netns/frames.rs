//! Frames of every malformed kind: each a counted drop, none a crash, and the router goes on.

use sluice_tests::{Daemon, Lab, SystemFile};

use crate::ACCEPT;

/// Builds frames from the client to the server and sends them; prints how many it sent.
const PROGRAM: &str = r#"
import socket, struct, random, sys
random.seed(1)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
router = bytes.fromhex(sys.argv[1].replace(":", "")) if len(sys.argv) > 1 else ROUTER
me = s.getsockname()[4]  # its own, or the router would rightly learn another
sent = 0
def csum(b):
    b += bytes(len(b) % 2)
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
def send(l3, et=b"\x08\0", dst=None):
    global sent
    f = (dst or router) + me + et + l3
    if len(f) < 14: f += bytes(14 - len(f))
    s.send(f); sent += 1
def v4(payload, proto=17, src=(10,1,0,2), dst=(10,2,0,2), ihl=5, ver=4, length=None, frag=0, ttl=64, bad=False, options=b""):
    ihl = ihl + len(options) // 4
    h = struct.pack("!BBHHHBBH4s4s", ver << 4 | ihl, 0, length if length is not None else 20 + len(options) + len(payload), 1, frag, ttl, proto, 0, bytes(src), bytes(dst)) + options
    c = csum(h) ^ (0x5555 if bad else 0)
    return h[:10] + struct.pack("!H", c) + h[12:] + payload
def v6(payload, nh=17, length=None, ver=6, hop=64, src="fd0000010000000000000000000000ff", dst="fd000002000000000000000000000002"):
    return struct.pack("!IHBB", ver << 28, len(payload) if length is None else length, nh, hop) + bytes.fromhex(src) + bytes.fromhex(dst) + payload
udp = struct.pack("!HHHH", 5000, 53, 12, 0) + b"abcd"
tcp = struct.pack("!HHIIBBHHH", 5000, 80, 1, 0, 0x50, 2, 1000, 0, 0)
# short: every length from the Ethernet header on
for n in range(0, 40): send(v4(udp)[:n]); send(v6(udp)[:n], b"\x86\xdd")
# lying lengths, versions, header lengths
for l in (0, 1, 19, 20, 21, 27, 33, 1500, 65535): send(v4(udp, length=l)); send(v6(udp, length=l), b"\x86\xdd")
for v in range(16): send(v4(udp, ver=v)); send(v6(udp, ver=v), b"\x86\xdd")
for i in range(16): send(v4(udp, ihl=i))
send(v4(udp, bad=True))
# options
for o in (b"\x44\x28" + bytes(38), b"\x07\x03\x04\x00", b"\x83\x07\x04" + bytes([10,2,0,9]) + b"\0", b"\x89\x07\x04" + bytes([10,2,0,9]) + b"\0", b"\x01" * 40, b"\x07\x00\x00\x00", b"\xff\x01\x00\x00", b"\x07\xff\x04\x00", b"\x94\x04\0\0"):
    send(v4(udp, options=o))
# transport headers that lie or are cut
for n in range(0, 20): send(v4(tcp[:n], proto=6)); send(v4(udp[:n])); send(v6(tcp[:n], 6), b"\x86\xdd"); send(v4(bytes(n), proto=1)); send(v6(bytes(n), 58), b"\x86\xdd"); send(v4(bytes(n), proto=132)); send(v4(bytes(n), proto=47))
for off in range(16): send(v4(tcp[:12] + bytes([off << 4]) + tcp[13:], proto=6))
for l in (0, 7, 8, 13, 65535): send(v4(struct.pack("!HHHH", 5000, 53, l, 0) + b"abcd"))
for flags in range(256): send(v4(tcp[:13] + bytes([flags]) + tcp[14:], proto=6))
for kind in range(256): send(v4(bytes([kind, 0, 0, 0]) + bytes(4) + v4(udp)[:28], proto=1)); send(v6(bytes([kind, 0, 0, 0]) + bytes(4) + v6(udp), 58), b"\x86\xdd")
# extension header chains
def chain(*h):
    out = b""
    for i, (me_, body) in enumerate(h): out += bytes([h[i + 1][0] if i + 1 < len(h) else 17]) + body
    return h[0][0], out + udp
for kind in (0, 43, 44, 60, 51, 135, 139, 140, 253):
    for body in (b"\0" + bytes(6), b"\xff" + bytes(6), b"\1" + bytes(14)):
        nh, p = chain(*[(kind, body)] * 1); send(v6(p, nh), b"\x86\xdd")
        nh, p = chain(*[(kind, body)] * 12); send(v6(p, nh), b"\x86\xdd")
nh, p = chain((0, b"\0\x01\x04" + bytes(4)), (60, b"\0" + bytes(6)), (43, b"\0" + bytes(6)), (44, b"\0\0\0" + bytes(4))); send(v6(p, nh), b"\x86\xdd")
send(v6(b"", 59), b"\x86\xdd")
# fragments: tiny, overlapping, at the end of the world
for f in (0x2000, 0x2001, 0x1fff, 0x0001, 0x3fff, 0x8000, 0x4000): send(v4(udp, frag=f))
# addresses that may not be: land, loopback, multicast and broadcast sources, unspecified
for a, b in (((10,2,0,2), (10,2,0,2)), ((127,0,0,1), (10,2,0,2)), ((224,0,0,1), (10,2,0,2)), ((255,255,255,255), (10,2,0,2)), ((0,0,0,0), (10,2,0,2)), ((10,1,0,1), (10,1,0,1)), ((10,1,0,2), (127,0,0,1)), ((10,1,0,2), (0,0,0,0)), ((10,1,0,2), (240,0,0,1)), ((10,1,0,2), (255,255,255,255)), ((10,1,0,2), (10,2,0,255)), ((10,1,0,2), (224,0,0,5))): send(v4(udp, src=a, dst=b))
for a in ("0" * 32, "0" * 31 + "1", "ff020000000000000000000000000001", "fd000001000000000000000000000001"): send(v6(udp, src=a), b"\x86\xdd"); send(v6(udp, dst=a), b"\x86\xdd")
# other things on a link
for et in (b"\x81\0", b"\x88\xa8", b"\x88\xcc", b"\x08\x06", b"\0\x26", b"\x88\x47"):
    for n in (0, 1, 3, 27, 28, 46, 100): send(bytes(random.randrange(256) for _ in range(n)), et); send(bytes(n), et, b"\xff" * 6)
send(b"\0\x0a\x81\0\0\x0a\x08\0" + v4(udp), b"\x81\0"); send(b"\x0f\xff\x08\0" + v4(udp), b"\x81\0")
send(v4(udp), dst=bytes.fromhex("020000009999")); send(v4(udp), dst=b"\xff" * 6); send(v4(udp), dst=bytes.fromhex("01005e000001"))
# neighbour messages that lie
arp = lambda op, sha, spa, tha, tpa, hw=1, pr=0x800, hl=6, pl=4: struct.pack("!HHBBH", hw, pr, hl, pl, op) + sha + bytes(spa) + tha + bytes(tpa)
for op in range(12): send(arp(op, me, (10,1,0,2), bytes(6), (10,1,0,1)), b"\x08\x06")
send(arp(2, b"\xff" * 6, (10,1,0,3), router, (10,1,0,1)), b"\x08\x06"); send(arp(1, me, (10,1,0,1), bytes(6), (10,1,0,1)), b"\x08\x06"); send(arp(1, me, (10,1,0,2), bytes(6), (10,1,0,1), hl=255), b"\x08\x06")
for kind in range(133, 138):
    for n in (0, 4, 20, 28):
        for opt in (b"", b"\1\0" + bytes(6), b"\1\1" + me, b"\xff\xff", b"\2\1" + me): send(v6(bytes([kind, 0, 0, 0]) + bytes(n) + opt, 58, hop=255), b"\x86\xdd")
# noise
for _ in range(2000): send(bytes(random.randrange(256) for _ in range(random.randrange(0, 120))), random.choice((b"\x08\0", b"\x86\xdd")))
for _ in range(2000):
    p = bytearray(v4(tcp, proto=6) if random.random() < .5 else v6(tcp, 6)); p[random.randrange(len(p))] ^= 1 << random.randrange(8)
    send(bytes(p), b"\x08\0" if p[0] >> 4 == 4 else b"\x86\xdd")
print(sent)
"#;

#[test]
fn every_malformed_frame_is_counted_with_one_worker() {
    every_malformed_frame_is_counted_and_none_is_fatal(1);
}

#[test]
fn every_malformed_frame_is_counted_with_two_workers() {
    every_malformed_frame_is_counted_and_none_is_fatal(2);
}

fn every_malformed_frame_is_counted_and_none_is_fatal(workers: usize) {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), ACCEPT);
    lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.05", "-W", "2", "10.2.0.2"]);
    let mac = lab.must("router", &["cat", "/sys/class/net/lan0/address"]);
    let program = PROGRAM.replace("ROUTER", &format!("bytes.fromhex('{}')", mac.trim().replace(':', "")));
    let sent: u64 = lab.python("client", &program).trim().parse().expect("a number of frames");
    assert!(sent > 5000, "{sent}");
    lab.must("client", &["ping", "-q", "-c", "5", "-i", "0.05", "-W", "2", "10.2.0.2"]);
    lab.must("client", &["ping", "-q", "-c", "5", "-i", "0.05", "-W", "2", "fd00:2::2"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let m = daemon.metrics();
    daemon.assert_adds_up();
    let (received, _) = m.received_and_ended();
    let missed = m.sum("sluice_device_rx_missed_total", &[]);
    // The kernel itself swallows frames whose VLAN tag is cut short, and its AF_PACKET keeps IPv4 fragments until
    // they are whole.
    assert!(received + missed + 20 >= sent, "received {received}, missed {missed}, sent {sent}");
    for reason in [
        "ip_header",
        "ip_checksum",
        "ip_extension",
        "martian_source",
        "unknown_ethertype",
        "unknown_vlan",
        "other_host",
        "ip_options",
    ] {
        assert!(m.sum("sluice_drops_total", &[&format!("reason=\"{reason}\"")]) > 0, "drops for {reason}");
    }
    assert!(m.sum("sluice_conntrack_packets_total", &["state=\"invalid\""]) > 100);
    daemon.stop();
}

#[test]
fn a_jumbo_frame_is_cut_by_nobody() {
    let lab = Lab::new();
    // The client may send more than the router's interface takes.
    for (host, dev) in [("client", "eth0"), ("router", "lan0")] {
        lab.must(host, &["ip", "link", "set", dev, "mtu", "9000"]);
    }
    let daemon = Daemon::start(&lab, &SystemFile::default(), ACCEPT);
    let out =
        lab.run("client", &["ping", "-c", "2", "-i", "0.1", "-W", "1", "-s", "8000", "-M", "do", "10.2.0.2"]);
    assert!(!out.status.success());
    lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.05", "-W", "2", "10.2.0.2"]);
    daemon.assert_adds_up();
    daemon.stop();
}
