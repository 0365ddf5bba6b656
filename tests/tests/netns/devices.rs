//! The kinds of device beside `kernel:`, and VLAN tags.

use sluice_tests::{Daemon, Lab, SystemFile, text};

use crate::{ACCEPT, BORDER};

#[test]
fn xdp_carries_traffic() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let system = SystemFile {
        interfaces: SystemFile::default().interfaces.replace("kernel:", "xdp:"),
        ..SystemFile::workers(2)
    };
    let daemon = Daemon::start(&lab, &system, BORDER);
    for server in ["10.2.0.2", "fd00:2::2"] {
        lab.must("client", &["ping", "-q", "-c", "3", "-i", "0.05", "-W", "2", server]);
    }
    assert_eq!(lab.must("client", &["curl", "-sSf", "-m", "5", "http://10.2.0.2/"]), "hello\n");
    daemon.stop();
    assert!(
        !lab.must("router", &["ip", "link", "show", "dev", "lan0"]).contains("xdp"),
        "the XDP program is gone"
    );
}

#[test]
fn a_tap_as_a_device() {
    let lab = Lab::new();
    let system = SystemFile {
        interfaces: "  lan: {device: \"kernel:lan0\", addresses: [10.1.0.1/24]}\n  \
                     lab: {device: \"tap:lab0\", addresses: [10.3.0.1/24]}\n"
            .into(),
        ..SystemFile::default()
    };
    let daemon = Daemon::start(&lab, &system, ACCEPT);
    // The other end of the tap goes to the server's namespace, as a container's would.
    lab.must("router", &["ip", "link", "set", "lab0", "netns", &lab.ns("server")]);
    lab.must("server", &["ip", "addr", "add", "10.3.0.2/24", "dev", "lab0"]);
    lab.must("server", &["ip", "link", "set", "lab0", "up"]);
    lab.must("server", &["ip", "route", "replace", "default", "via", "10.3.0.1"]);
    lab.must("client", &["ping", "-q", "-c", "3", "-i", "0.1", "-W", "2", "10.3.0.2"]);
    daemon.stop();
}

#[test]
fn pcap_in_and_out() {
    let lab = Lab::new();
    // Three UDP packets from 10.1.0.2 to 10.9.0.1, by way of the broadcast MAC so that no address need be known.
    let input = lab.dir().join("in.pcap");
    let output = lab.dir().join("out.pcap");
    lab.python(
        "router",
        &format!(
            r#"
import struct
def csum(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b)); s = (s & 0xffff) + (s >> 16); return ~(s + (s >> 16)) & 0xffff
out = struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1)
for i in range(3):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, i, 0, 64, 17, 0, bytes([10,1,0,2]), bytes([10,9,0,1]))
    ip = ip[:10] + struct.pack("!H", csum(ip)) + ip[12:]
    f = bytes.fromhex("020000000101" "020000000102" "0800") + ip + struct.pack("!HHHH", 1000 + i, 53, 12, 0) + b"abcd"
    f += bytes(60 - len(f))
    out += struct.pack("<IIII", 1, i, len(f), len(f)) + f
open("{}", "wb").write(out)
"#,
            input.display()
        ),
    );
    let system = SystemFile {
        interfaces: format!(
            "  in0: {{device: \"pcap:{}\", mac: \"02:00:00:00:01:01\", addresses: [10.1.0.1/24]}}\n  \
             out0: {{device: \"pcap:/dev/null,{}\", mac: \"02:00:00:00:01:03\", addresses: [10.9.0.254/24]}}\n",
            input.display(),
            output.display()
        )
        .replace("pcap:/dev/null,", &format!("pcap:{},", empty_pcap(&lab))),
        more: "neighbours: [{address: 10.9.0.1, mac: \"02:00:00:00:00:09\"}]\n".into(),
        ..SystemFile::default()
    };
    let daemon = Daemon::start(&lab, &system, ACCEPT);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(daemon.metrics().sum("sluice_forwarded_packets_total", &["interface=\"in0\""]), 3);
    daemon.stop();
    let seen = text(&lab.run("router", &["tcpdump", "-nn", "-r", &output.to_string_lossy()]));
    assert_eq!(seen.matches("10.1.0.2.100").count(), 3, "{seen}");
}

fn empty_pcap(lab: &Lab) -> String {
    let path = lab.dir().join("empty.pcap");
    let header: [u8; 24] =
        [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
    std::fs::write(&path, header).expect("pcap");
    path.to_string_lossy().into_owned()
}

#[test]
fn memif_between_two_routers() {
    let lab = Lab::new();
    let socket = lab.dir().join("memif.sock");
    let interfaces = |leg: &str, n: u8, end: u8| {
        format!(
            "  {leg}: {{device: \"kernel:{leg}0\", addresses: [10.{n}.0.1/24]}}\n  \
             between{end}: {{device: \"memif:{}\", addresses: [10.9.0.{end}/24]}}\n",
            socket.display()
        )
    };
    let first = SystemFile {
        interfaces: interfaces("lan", 1, 1),
        more: "routes: [{to: 10.2.0.0/24, via: 10.9.0.2}]\n".into(),
        ..SystemFile::default()
    };
    let daemon = Daemon::start(&lab, &first, ACCEPT);
    // The second router has a folder of its own; it shares the first one's namespace, and takes the other leg.
    let second = SystemFile {
        interfaces: interfaces("wan", 2, 2),
        more: "routes: [{to: 10.1.0.0/24, via: 10.9.0.1}]\n".into(),
        ..SystemFile::default()
    };
    let text_of = second
        .text(&lab)
        .replace("api.sock", "api2.sock")
        .replace("9843", "9844")
        .replace("/state", "/state2");
    let config = lab.write("second.yaml", &text_of);
    let other =
        lab.spawn("router", &[&sluice_tests::program("sluiced"), "--config", &config.to_string_lossy()]);
    for _ in 0..200 {
        if lab.run("client", &["ping", "-q", "-c", "1", "-W", "1", "10.2.0.2"]).status.success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let out = lab.run("client", &["ping", "-q", "-c", "3", "-i", "0.1", "-W", "2", "10.2.0.2"]);
    assert!(out.status.success(), "{}\nfirst:\n{}\nsecond:\n{}", text(&out), daemon.log(), other.log());
    daemon.stop();
}

#[test]
fn vlan_tags() {
    let lab = Lab::new();
    let system = SystemFile {
        interfaces: "  lan: {device: \"kernel:lan0\", addresses: [10.1.0.1/24]}\n  \
                     lan10: {device: \"kernel:lan0\", vlan: 10, addresses: [10.10.0.1/24]}\n  \
                     wan: {device: \"kernel:wan0\", addresses: [10.2.0.1/24]}\n"
            .into(),
        ..SystemFile::default()
    };
    let daemon = Daemon::start(&lab, &system, ACCEPT);
    lab.must("client", &["ping", "-q", "-c", "1", "-W", "2", "10.2.0.2"]);
    // A host in VLAN 10 asks for the router by ARP, pings the server beyond it, and answers ARP; all frames tagged.
    let seen = lab.python(
        "client",
        r#"
import socket, struct, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(("eth0", 0)); s.settimeout(0.1)
s.setsockopt(263, 8, 1)  # PACKET_AUXDATA: the kernel takes the tag out of the frame and tells it here
me, mine, router = bytes.fromhex("0200000000aa"), bytes([10,10,0,9]), bytes([10,10,0,1])
tag = lambda et: b"\x81\x00" + struct.pack("!H", 10) + et
def csum(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b)); s = (s & 0xffff) + (s >> 16); return ~(s + (s >> 16)) & 0xffff
def recv():
    try: data, anc, _, addr = s.recvmsg(2000, 256)
    except TimeoutError: return None, None
    if addr[2] == 4: return None, None
    vid = None
    for lvl, ty, d in anc:
        if lvl == 263 and ty == 8 and struct.unpack("IIIHHHH", d[:20])[0] & 0x10: vid = struct.unpack("IIIHHHH", d[:20])[5] & 0xfff
    return vid, data
s.send(b"\xff" * 6 + me + tag(b"\x08\x06") + b"\0\1\x08\0\6\4\0\1" + me + mine + bytes(6) + router)
mac, done, end = None, False, time.time() + 5
while time.time() < end and not done:
    vid, f = recv()
    if vid != 10: continue
    if f[12:14] == b"\x08\x06" and f[20:22] == b"\0\2" and f[28:32] == router and mac is None:
        mac = f[22:28]; print("arp answered")
        icmp = b"\x08\0\0\0" + struct.pack("!HH", 7, 1) + b"tagged!!"
        icmp = icmp[:2] + struct.pack("!H", csum(icmp)) + icmp[4:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0, mine, bytes([10,2,0,2]))
        ip = ip[:10] + struct.pack("!H", csum(ip)) + ip[12:]
        s.send(mac + me + tag(b"\x08\0") + ip + icmp)
    elif f[12:14] == b"\x08\x06" and f[20:22] == b"\0\1" and f[38:42] == mine:
        s.send(f[6:12] + me + tag(b"\x08\x06") + b"\0\1\x08\0\6\4\0\2" + me + mine + f[22:28] + f[28:32])
    elif f[12:14] == b"\x08\0" and f[23] == 1 and f[34] == 0:
        print("ping answered"); done = True
"#,
    );
    assert_eq!(seen, "arp answered\nping answered\n", "{}", daemon.log());
    let m = daemon.metrics();
    assert!(m.sum("sluice_forwarded_packets_total", &["interface=\"lan10\""]) >= 1);
    daemon.stop();
}
