//! Helpers whose protocols name addresses in more than one place, under real programs: calls by sipp with sound, and files
//! offered over ngircd. And what needs no helper: a mesh of datagrams that is not tracked at all.

use std::time::Duration;

use sluice_tests::{Daemon, Lab, Process, SystemFile};

/// Nothing comes in but what the helpers announced.
const GUARDED: &str = r"
mangle:
  prerouting:
    - {in: lan, proto: [tcp, udp], dport: 5060, ct: new, action: {helper: sip}}
    - {in: lan, proto: tcp, dport: 6667, ct: new, action: {helper: irc}}
filter:
  forward:
    policy: drop
    rules:
      - {ct: established, action: accept}
      - {ct: related, ct_helper: sip, proto: udp, dport: 1024-65535, action: accept, name: media}
      - {ct: related, ct_helper: irc, proto: tcp, dport: 1024-65535, action: accept, name: offer}
      - {in: lan, proto: [tcp, udp], dport: [5060, 6667], ct: new, action: accept}
";

const MASQUERADE: &str = "nat: {postrouting: [{out: wan, action: masquerade}]}\n";

/// A call with a second of sound, which the other end sends back.
const CALL: &str = r#"<?xml version="1.0"?>
<scenario name="call">
<send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: sip:sipp@[local_ip]:[local_port]
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=user1 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 101
a=rtpmap:101 telephone-event/8000
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="200" rtd="true"/>
<send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Contact: sip:sipp@[local_ip]:[local_port]
Max-Forwards: 70
Content-Length: 0

]]></send>
<nop><action><exec play_pcap_audio="/usr/share/sip-tester/dtmf_2833_1.pcap"/></action></nop>
<pause milliseconds="700"/>
<send retrans="500"><![CDATA[
BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Contact: sip:sipp@[local_ip]:[local_port]
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200" crlf="true"/>
</scenario>
"#;

/// Three calls, one after the other.
fn calls(policy: &str, workers: usize, transport: &str, outer: &str) {
    let lab = Lab::new();
    let _answers = lab.spawn(
        "server",
        &[
            "sipp",
            "-sn",
            "uas",
            "-i",
            "10.2.0.2",
            "-t",
            transport,
            "-mi",
            "10.2.0.2",
            "-mp",
            "6100",
            "-rtp_echo",
            "-nostdin",
        ],
    );
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), policy);
    let scenario = lab.write("call.xml", CALL);
    let scenario = scenario.to_string_lossy();
    let call = [
        "sipp",
        "-sf",
        &scenario,
        "10.2.0.2:5060",
        "-i",
        "10.1.0.2",
        "-t",
        transport,
        "-mi",
        "10.1.0.2",
        "-mp",
        "6000",
        "-m",
        "3",
        "-l",
        "1",
        "-r",
        "5",
        "-timeout",
        "20s",
        "-timeout_error",
        "-nostdin",
    ];
    lab.must("client", &call);
    let sound = daemon.ask(&["conntrack", "list", "-p", "udp", "--dport", "6100"]);
    let echoed = format!("src=10.2.0.2 dst={outer} sport=6100 dport=6000");
    assert!(sound.contains(&echoed) && !sound.contains("UNREPLIED"), "{sound}");
    assert_eq!(daemon.ask(&["conntrack", "expect"]), "", "forgotten with the calls");
    assert_eq!(daemon.metrics().sum("sluice_drops_total", &["helper_"]), 0);
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn calls_with_sound() {
    calls(GUARDED, 1, "u1", "10.1.0.2");
}

#[test]
fn calls_with_sound_through_nat_with_two_workers() {
    calls(&format!("{GUARDED}{MASQUERADE}"), 2, "u1", "10.2.0.1");
}

#[test]
fn calls_over_tcp_with_sound_through_nat() {
    calls(&format!("{GUARDED}{MASQUERADE}"), 1, "t1", "10.2.0.1");
}

/// Starts ngircd on the server.
fn ngircd(lab: &Lab) -> Process {
    let conf = "[Global]\nName = irc.test\nInfo = test\nListen = 10.2.0.2\nServerUID = root\nServerGID = root\n\
                [Options]\nDNS = no\nIdent = no\nPAM = no\n";
    let conf = lab.write("ngircd.conf", conf);
    let process = lab.spawn("server", &["ngircd", "-n", "-f", &conf.to_string_lossy()]);
    lab.wait_for("server", 6667);
    process
}

/// Comes into the channel, and reads lines.
const CHAT: &str = "import socket,re\n\
    s=socket.create_connection(('10.2.0.2',6667),5)\n\
    f=s.makefile('r',newline='\\n')\n\
    def say(t): s.sendall(t.encode('latin1')+b'\\r\\n')\n\
    def until(w):\n\
    \x20 for line in f:\n\
    \x20   if line.startswith('PING'): say('PONG'+line[4:].strip())\n\
    \x20   if re.search(w,line): return line\n\
    def enter(nick):\n\
    \x20 say('NICK '+nick); say('USER %s 0 * :%s'%(nick,nick)); until(' 001 '); say('JOIN #x')\n";

/// Offers a file, and gives it to who comes.
const OFFERS: &str = "enter('alice'); until('bob')\n\
    l=socket.create_server(('10.1.0.2',0)); l.settimeout(8)\n\
    ip=int.from_bytes(socket.inet_aton('10.1.0.2'),'big')\n\
    say('PRIVMSG bob :\\x01DCC SEND file %d %d 5\\x01'%(ip,l.getsockname()[1]))\n\
    c,a=l.accept(); c.sendall(b'hello'); c.close(); say('QUIT')\n";

/// Takes the file from where the offer says.
const TAKES: &str = "enter('bob'); m=re.search(r'DCC SEND file (\\d+) (\\d+)',until('DCC SEND'))\n\
    ip=socket.inet_ntoa(int(m[1]).to_bytes(4,'big'))\n\
    d=socket.create_connection((ip,int(m[2])),5); print(ip,d.recv(9).decode())\n";

fn offers(policy: &str, workers: usize, outer: &str) {
    let lab = Lab::new();
    let _ngircd = ngircd(&lab);
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), policy);
    for _ in 0..2 {
        let mut alice = lab.spawn("client", &["python3", "-c", &format!("{CHAT}{OFFERS}")]);
        let got = lab.python("server", &format!("{CHAT}{TAKES}"));
        assert_eq!(got.trim_end(), format!("{outer} hello"));
        assert_eq!(alice.wait(Duration::from_secs(5)), Some(0), "{}", alice.log());
    }
    assert_eq!(daemon.ask(&["conntrack", "expect"]), "", "all that was offered was taken");
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn files_offered_over_chat() {
    offers(GUARDED, 1, "10.1.0.2");
}

#[test]
fn files_offered_over_chat_through_nat_with_two_workers() {
    offers(&format!("{GUARDED}{MASQUERADE}"), 2, "10.2.0.1");
}

/// Peers of a mesh: each of 2,000 answers what it gets.
const PEERS: &str = "import socket,select,resource\n\
    resource.setrlimit(resource.RLIMIT_NOFILE,(9999,9999))\n\
    p=select.epoll(); all={}\n\
    for a in range(10,20):\n\
    \x20 for n in range(200):\n\
    \x20   s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.2.0.%d'%a,20000+n)); all[s.fileno()]=s\n\
    \x20   p.register(s,select.EPOLLIN)\n\
    print('up',flush=True)\n\
    while True:\n\
    \x20 for fd,_ in p.poll():\n\
    \x20   d,w=all[fd].recvfrom(99); all[fd].sendto(d,w)\n";

/// The one that knows them all, from one port.
const SEED: &str = "import socket\n\
    s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.1.0.2',33333)); s.settimeout(2)\n\
    got=set()\n\
    for again in range(5):\n\
    \x20 for a in range(10,20):\n\
    \x20   for n in range(200):\n\
    \x20     if ('10.2.0.%d'%a,20000+n) in got: continue\n\
    \x20     s.sendto(b'x'*40,('10.2.0.%d'%a,20000+n))\n\
    \x20     if n%20==19 or again:\n\
    \x20       s.settimeout(0.02)\n\
    \x20       try:\n\
    \x20         while True: got.add(s.recvfrom(99)[1])\n\
    \x20       except OSError: pass\n\
    print(len(got))\n";

#[test]
fn a_mesh_on_one_untracked_port_leaves_nothing_in_the_table() {
    let lab = Lab::new();
    for last in 10..20 {
        lab.must("server", &["ip", "address", "add", &format!("10.2.0.{last}/24"), "dev", "eth0"]);
    }
    let policy = "sets: {torrent: {type: port, elements: [33333]}}\n\
                  raw:\n  prerouting:\n    - {dport: '@torrent', action: notrack}\n    - {sport: '@torrent', action: notrack}\n\
                  filter:\n  forward:\n    policy: drop\n    rules:\n      - {dport: '@torrent', action: accept}\n      \
                  - {sport: '@torrent', action: accept}\n";
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), policy);
    let peers = lab.spawn("server", &["python3", "-u", "-c", PEERS]);
    daemon.wait_until(|| peers.log().contains("up"));
    assert_eq!(lab.python("client", SEED).trim_end(), "2000", "each peer was heard of");
    let flows = daemon.ask(&["conntrack", "list", "-p", "udp"]);
    assert!(!flows.contains("33333"), "{flows}");
    let metrics = daemon.metrics();
    assert_eq!(metrics.sum("sluice_conntrack_packets_total", &["state=\"new\""]), 0);
    assert!(metrics.sum("sluice_conntrack_packets_total", &["state=\"untracked\""]) >= 4000);
    daemon.assert_adds_up();
    daemon.stop();
}
