"""What the router is told to do with the traffic, and the same for those it is compared with."""

import random

ESTABLISHED = "{ct: [established, related], action: accept}"
INVALID = "{ct: invalid, action: drop}"
NEW = '{src: [10.0.0.0/8, "2001:db8:1::/48"], ct: new, action: accept}'
NOTRACK = "raw: {prerouting: [{action: notrack}]}\n"
# Of the pool's addresses, replies know one alone.
TRANSLATED = "203.0.113.77"


def rules(count):
    """An access list about the packets' own networks that none of them is on: the same each time."""
    chance = random.Random(count)
    for _ in range(count):
        src = f"10.{chance.randrange(256)}.{chance.randrange(256)}.0/{chance.choice((24, 24, 22, 20, 16))}"
        dst = f"198.{chance.choice((18, 19))}.{chance.randrange(256)}.{chance.randrange(256)}/{chance.choice((32, 32, 28, 24))}"
        yield network(src), network(dst), chance.choice(("udp", "udp", "tcp")), chance.randrange(1024, 65536)


def network(text):
    """With the bits beyond the prefix cleared."""
    address, length = text.split("/")
    bits = int.from_bytes(bytes(map(int, address.split("."))), "big") & -(1 << 32 - int(length))
    return ".".join(str(byte) for byte in (bits & 0xFFFFFFFF).to_bytes(4, "big")) + f"/{length}"


def sluice(mode, count=0):
    """Policy YAML: `notrack`, `tracked` or `nat`, with so many rules before the one that accepts."""
    lines = [NOTRACK] if mode == "notrack" else []
    if mode == "nat":
        lines.append(f"nat: {{postrouting: [{{src: 10.0.0.0/8, action: {{snat: {TRANSLATED}}}}}]}}\n")
    lines.append("filter:\n  forward:\n    policy: drop\n    rules:\n")
    if mode != "notrack":
        lines += [f"      - {ESTABLISHED}\n", f"      - {INVALID}\n"]
    for src, dst, proto, port in rules(count):
        lines.append(f"      - {{src: {src}, dst: {dst}, proto: {proto}, dport: {port}, action: drop}}\n")
    lines.append("      - {ct: untracked, action: accept}\n" if mode == "notrack" else f"      - {NEW}\n")
    return "".join(lines)


def nftables(mode, count=0):
    """The same for nft; `routed` is no ruleset at all."""
    if mode == "routed":
        return ""
    lines = ["table ip filter {\n"]
    if mode == "notrack":
        lines.append("chain untrack { type filter hook prerouting priority raw; notrack; }\n")
    lines.append("chain forward { type filter hook forward priority filter; policy drop;\n")
    if mode != "notrack":
        lines.append("ct state established,related accept\nct state invalid drop\n")
    for src, dst, proto, port in rules(count):
        lines.append(f"ip saddr {src} ip daddr {dst} {proto} dport {port} drop\n")
    lines.append("ct state untracked accept\n" if mode == "notrack" else "ip saddr 10.0.0.0/8 ct state new accept\n")
    return "".join(lines) + "}\n}\n"


def openflow(mode, way_out, macs):
    """The same for OVS; `macs`: (source, destination) of the next hop's link."""
    send = f"dec_ttl,mod_dl_src:{macs[0]},mod_dl_dst:{macs[1]},output:{way_out}"
    if mode == "routed":
        return [f"table=0,ip,actions={send}"]
    return [
        "table=0,ip,ct_state=-trk,actions=ct(table=1)",
        f"table=1,ip,ct_state=+trk+est,actions={send}",
        f"table=1,ip,ct_state=+trk+new,nw_src=10.0.0.0/8,actions=ct(commit),{send}",
    ]
