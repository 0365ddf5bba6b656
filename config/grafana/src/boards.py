"""The dashboards: which questions somebody who looks after a router asks, and the queries that answer them."""
from panels import ANY_IS_BAD, FILLING, board, choice, graph, listing, number, row, state

RATE = "[$__rate_interval]"


def new_flows():
    """How many connections begin."""
    return graph(
        "New flows", "cps", "Connections that began, a second.",
        (f"rate(sluice_conntrack_new_flows_total{{$where}}{RATE})", "{{instance}}"),
    )


def overview():
    """Is it up, is it losing anything, is it full?"""
    received = f"sum by (instance) (rate(sluice_rx_packets_total{{$where}}{RATE}))"
    lost = (
        f"sum by (instance) (rate(sluice_device_rx_missed_total{{$where}}{RATE}))"
        f" + sum by (instance) (rate(sluice_device_rx_nombuf_total{{$where}}{RATE}))"
    )
    return (
        board("overview", "Overview", "All routers at a glance: up, losing nothing, not full.")
        .with_panel(
            state("Up", "Whether Prometheus reaches the router.", "up{$where}", [(1, "up", "green"), (0, "down", "red")])
        )
        .with_panel(
            number("Uptime", "s", "Time since the daemon was ready.", "sluice_uptime_seconds{$where}")
        )
        .with_panel(number("Received", "pps", "Packets a second from the wire.", received))
        .with_panel(
            number("Lost at devices", "pps", "Packets that devices lost before a worker saw them.", lost, ANY_IS_BAD)
        )
        .with_panel(
            number(
                "Tracked flows", "percentunit", "How full the connection tracking table is.",
                "sluice_conntrack_entries{$where} / sluice_conntrack_max{$where}", FILLING,
            )
        )
        .with_panel(
            state(
                "Last change of policy", "Whether the last apply or reload was accepted.",
                "sluice_policy_last_reload_success{$where}", [(1, "in force", "green"), (0, "refused", "red")],
            )
        )
        .with_panel(
            graph(
                "Traffic", "bps", "Bits a second received and sent over all interfaces, Ethernet headers included.",
                (f"sum by (instance) (rate(sluice_rx_bytes_total{{$where}}{RATE})) * 8", "{{instance}} in"),
                (f"sum by (instance) (rate(sluice_tx_bytes_total{{$where}}{RATE})) * 8", "{{instance}} out"),
            )
        )
        .with_panel(
            graph(
                "What becomes of packets", "pps", "Every packet received ends in exactly one of these.",
                (f"sum(rate(sluice_forwarded_packets_total{{$where}}{RATE}))", "forwarded"),
                (f"sum(rate(sluice_delivered_packets_total{{$where}}{RATE}))", "delivered to the box"),
                (f"sum(rate(sluice_answered_packets_total{{$where}}{RATE}))", "answered with an error"),
                (f"sum(rate(sluice_consumed_packets_total{{$where}}{RATE}))", "ARP, neighbour discovery"),
                (f"sum(rate(sluice_drops_total{{$where}}{RATE}))", "dropped"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Drops by reason", "pps", "Reasons are explained by `sluice show drops`.",
                (f"topk(10, sum by (reason) (rate(sluice_drops_total{{$where}}{RATE})))", "{{reason}}"),
                stacked=True,
            )
        )
        .with_panel(
            new_flows()
        )
        .with_panel(
            graph(
                "Busy workers", "percentunit", "Of the time of each worker, how much went into polls with packets.",
                (
                    f"rate(sluice_worker_busy_cycles_total{{$where}}{RATE}) / (rate(sluice_worker_busy_cycles_total{{$where}}{RATE})"
                    f" + rate(sluice_worker_idle_cycles_total{{$where}}{RATE}))",
                    "{{instance}} worker {{worker}}",
                ),
                most=1,
            )
        )
        .with_panel(
            graph(
                "Latency of the router", "s", "From a worker's hands to the device: what half, and all but one in a hundred, stay below.",
                (quantile(0.5, "latency", "instance"), "{{instance}} half"),
                (quantile(0.99, "latency", "instance"), "{{instance}} 99 %"),
            )
        )
    )


def quantile(of, what, by):
    """A quantile of a histogram of the workers."""
    return f"histogram_quantile({of}, sum by (le, {by}) (rate(sluice_worker_{what}_seconds_bucket{{$where}}{RATE})))"


def interfaces():
    """What goes in and out where, and what devices lose."""
    where = '$where,interface=~"$interface"'

    def traffic(title, unit, metric, factor, description):
        return graph(
            title, unit, description,
            (f"sum by (instance, interface) (rate({metric}{{{where}}}{RATE})){factor}", "{{instance}} {{interface}}"),
            width=12,
        )

    def ending(what, title, description):
        return graph(
            title, "pps", description,
            (f"sum by (instance, interface) (rate(sluice_{what}_packets_total{{{where}}}{RATE}))", "{{instance}} {{interface}}"),
        )

    def loss(what, title, description):
        return graph(
            title, "pps", description,
            (f"rate(sluice_device_{what}_total{{{where}}}{RATE})", "{{instance}} {{interface}}"), width=6,
        )

    return (
        board("interfaces", "Interfaces", "Traffic of each interface, what became of it, and what its device lost.")
        .with_variable(
            choice("interface", "Interface", 'label_values(sluice_rx_packets_total{job="sluice",instance=~"$instance"}, interface)')
        )
        .with_panel(
            state(
                "Link", "Whether the device reports a link; a device goes by its first interface.", f"sluice_device_up{{{where}}}",
                [(1, "up", "green"), (0, "down", "red")], width=24, legend="{{instance}} {{interface}}",
            )
        )
        .with_row(row("Traffic"))
        .with_panel(traffic("Received", "bps", "sluice_rx_bytes_total", " * 8", "Bits a second, Ethernet headers included."))
        .with_panel(traffic("Sent", "bps", "sluice_tx_bytes_total", " * 8", "Bits a second, of whatever origin."))
        .with_panel(traffic("Packets received", "pps", "sluice_rx_packets_total", "", "Packets a second from the wire."))
        .with_panel(traffic("Packets sent", "pps", "sluice_tx_packets_total", "", "Packets a second to the wire."))
        .with_row(row("What became of packets received here"))
        .with_panel(ending("forwarded", "Forwarded", "Sent to a next hop."))
        .with_panel(ending("delivered", "Delivered", "Handed to the box's own sockets."))
        .with_panel(ending("answered", "Answered", "Dropped, and the sender told by an error or a reset."))
        .with_panel(ending("consumed", "Used up", "ARP and neighbour discovery."))
        .with_panel(ending("local_tx", "Of the box itself", "Sent out here by the box's own sockets."))
        .with_panel(
            graph(
                "Receive queues", "pps", "Packets by queue: uneven ones make uneven workers.",
                (f"rate(sluice_rx_packets_total{{{where}}}{RATE})", "{{instance}} {{interface}} queue {{queue}}"),
            )
        )
        .with_row(row("Losses of devices"))
        .with_panel(loss("rx_missed", "Missed", "Nobody fetched them in time: workers do not keep up."))
        .with_panel(loss("rx_nombuf", "No buffer", "No packet buffer was free: raise memory.mbufs."))
        .with_panel(loss("rx_errors", "Received with errors", "Cable, transceiver, or frames that are too long."))
        .with_panel(loss("tx_errors", "Not sent", "The device failed to send them."))
    )


def conntrack():
    """Who fills the table, and what the tracker refuses."""

    def statistic(what):
        return (f"sum(rate(sluice_conntrack_{what}_total{{$where}}{RATE}))", what)

    return (
        board("conntrack", "Connection tracking", "The table of flows: how full, of what, and what the tracker could not do.")
        .with_panel(
            number("Flows", "short", "Flows in the table.", "sluice_conntrack_entries{$where}", width=6)
        )
        .with_panel(
            number(
                "Table", "percentunit", "Flows of those that the table may hold.",
                "sluice_conntrack_entries{$where} / sluice_conntrack_max{$where}", FILLING, width=6,
            )
        )
        .with_panel(
            number("Expected", "short", "Connections that helpers announced and that have not come.",
                   "sluice_conntrack_expectations{$where}", width=6)
        )
        .with_panel(
            number(
                "Timeouts", "percentunit", "What timeouts are multiplied by: less than 100 % while `adaptive` shortens them.",
                "sluice_conntrack_timeout_factor{$where}", [(None, "orange"), (1, "green")], width=6,
            )
        )
        .with_panel(
            graph(
                "Flows", "short", "In the table, and how many it may hold.",
                ("sluice_conntrack_entries{$where}", "{{instance}} flows"), ("sluice_conntrack_max{$where}", "{{instance}} most"),
            )
        )
        .with_panel(
            graph(
                "Flows by state", "short", "Protocols and states as conntrack names them.",
                ("sum by (protocol, state) (sluice_conntrack_flows{$where}) > 0", "{{protocol}} {{state}}"), stacked=True,
            )
        )
        .with_panel(
            new_flows()
        )
        .with_panel(
            graph(
                "Packets by state", "pps", "Just behind the tracker.",
                (f"sum by (state) (rate(sluice_conntrack_packets_total{{$where}}{RATE}))", "{{state}}"), stacked=True,
            )
        )
        .with_panel(
            graph(
                "No room", "pps", "Packets refused for want of room, and flows that were evicted or swept to make some.",
                statistic("drop"), statistic("early_drop"), statistic("swept"), statistic("insert_failed"),
                statistic("reserved"), statistic("quota_uncounted"),
            )
        )
        .with_panel(
            graph(
                "The kernel's statistics", "ops", "As `conntrack -S` has them.",
                statistic("found"), statistic("invalid"), statistic("insert"), statistic("error"), statistic("search_restart"),
            )
        )
        .with_panel(
            graph(
                "Places kept for the box itself", "short", "`reserve_local`: flows to and from the router find room in a full table.",
                ("sluice_conntrack_reserve{$where}", "{{instance}}"),
            )
        )
    )


def policy():
    """Which rules work, when the policy changed, and what it drops."""
    reasons = 'reason=~"policy_.*|rejected"'
    return (
        board("policy", "Policy and rules", "The running policy, its changes, and what its rules match.")
        .with_panel(
            state(
                "Last change", "Whether the last apply or reload was accepted.", "sluice_policy_last_reload_success{$where}",
                [(1, "in force", "green"), (0, "refused", "red")],
            )
        )
        .with_panel(
            number("Since", "dateTimeFromNow", "When the last change was tried.",
                   "sluice_policy_last_reload_timestamp_seconds{$where} * 1000")
        )
        .with_panel(
            state(
                "Confirmation", "Whether a policy waits for `sluice confirm`.", "sluice_policy_confirm_pending{$where}",
                [(0, "none waits", "green"), (1, "waits", "orange")],
            )
        )
        .with_panel(
            number("Time to confirm", "s", "Left until it goes back by itself.", "sluice_policy_confirm_remaining_seconds{$where}")
        )
        .with_panel(number("Rules", "short", "Rules of the running policy.", "sluice_policy_rules{$where}"))
        .with_panel(number("Compiled in", "s", "Time that compiling it took.", "sluice_policy_compile_seconds{$where}"))
        .with_panel(
            graph(
                "Busiest rules", "pps", "Rules with a name or the action `count`; a rule of a stored decision counts every packet.",
                (f"topk(15, sum by (table, chain, rule) (rate(sluice_rule_packets_total{{$where}}{RATE})))", "{{table}} {{chain}} {{rule}}"),
                width=12,
            )
        )
        .with_panel(
            graph(
                "Busiest rules by traffic", "bps", "Bits of IP datagrams a second.",
                (f"topk(15, sum by (table, chain, rule) (rate(sluice_rule_bytes_total{{$where}}{RATE}))) * 8", "{{table}} {{chain}} {{rule}}"),
                width=12,
            )
        )
        .with_panel(
            graph(
                "Dropped by the policy", "pps", "By the hook that dropped them.",
                (f"sum by (reason) (rate(sluice_drops_total{{$where,{reasons}}}{RATE}))", "{{reason}}"), stacked=True, width=12,
            )
        )
        .with_panel(
            graph(
                "Of the box itself dropped", "pps", "What the box sent and the policy, or want of a route, kept back.",
                (f"topk(10, sum by (reason) (rate(sluice_local_drops_total{{$where}}{RATE})))", "{{reason}}"),
                width=12,
            )
        )
        .with_panel(
            listing("Rules", "short", "Packets that each rule matched since it is in force.",
                    "sort_desc(sum by (table, chain, rule) (sluice_rule_packets_total{$where}))")
        )
        .with_panel(
            graph(
                "Generation", "short", "Rises with every change of policy, routes, addresses, sets or settings.",
                ("sluice_policy_generation{$where}", "{{instance}}"), width=12,
            )
        )
    )


def workers():
    """Do the workers keep up, do they share the work, and what holds them up?"""

    def by_worker(title, unit, description, expression, **more):
        return graph(title, unit, description, (expression, "{{instance}} worker {{worker}}"), **more)

    def rate(what):
        return f"rate(sluice_worker_{what}_total{{$where}}{RATE})"

    def part(what, title, description):
        return by_worker(title, "percentunit", description, f"{rate(what)} / clamp_min({rate('packets')}, 1)", most=1)

    return (
        board("workers", "Workers and DPDK", "The poll loops: how busy, how even, how long a poll or a packet takes; buffers and neighbours.")
        .with_panel(
            by_worker(
                "Busy", "percentunit", "Time in polls that found packets. At 100 % devices begin to lose packets.",
                f"{rate('busy_cycles')} / ({rate('busy_cycles')} + {rate('idle_cycles')})", most=1,
            )
        )
        .with_panel(by_worker("Packets", "pps", "Packets that polls returned, handed-over and local ones included.", rate("packets")))
        .with_panel(
            by_worker("Cycles a packet", "short", "Cycles of busy polls by packets, now.", f"{rate('busy_cycles')} / clamp_min({rate('packets')}, 1)")
        )
        .with_panel(
            by_worker("Packets a poll", "short", "Large bursts are cheap bursts.", f"{rate('packets')} / clamp_min({rate('busy_polls')}, 1)")
        )
        .with_panel(by_worker("Polls", "ops", "All polls, those without packets too.", f"{rate('busy_polls')} + {rate('idle_polls')}"))
        .with_panel(part("fast_path_packets", "By stored decisions", "Packets that took the stored decision of their flow."))
        .with_panel(part("handed_over_packets", "Handed over", "Packets given to the worker that owns their flow: 0 with RSS that knows it."))
        .with_panel(part("device_hashed_packets", "Hashed by the device", "Packets that brought the device's hash along."))
        .with_panel(
            by_worker("Since the start", "short", "Cycles a packet, averaged over all time.", "sluice_worker_cycles_per_packet{$where}")
        )
        .with_row(row("Time"))
        .with_panel(
            graph(
                "Latency", "s", "From a worker's hands to the device, of one packet in 128.",
                (quantile(0.5, "latency", "instance, worker"), "{{instance}} worker {{worker}} half"),
                (quantile(0.99, "latency", "instance, worker"), "{{instance}} worker {{worker}} 99 %"),
            )
        )
        .with_panel(
            graph(
                "Polls", "s", "How long polls take. What is far above 200 µs fills queues meanwhile: another program on the core, mostly.",
                (quantile(0.5, "poll", "instance, worker"), "{{instance}} worker {{worker}} half"),
                (quantile(0.999, "poll", "instance, worker"), "{{instance}} worker {{worker}} 99.9 %"),
            )
        )
        .with_panel(by_worker("Longest poll", "s", "Since the start.", "sluice_worker_longest_poll_seconds{$where}"))
        .with_row(row("Memory and neighbours"))
        .with_panel(
            graph(
                "Packet buffers", "short", "Buffers in use, of all.",
                ("sluice_packet_buffers_used{$where}", "{{instance}} used"), ("sluice_packet_buffers{$where}", "{{instance}} all"),
            )
        )
        .with_panel(by_worker("Held packets", "short", "Waiting for a next hop's address, or for the rest of a datagram.", "sluice_held_packets{$where}"))
        .with_panel(
            graph(
                "Neighbours", "short", "Next hops by state. Many incomplete ones: somebody scans an empty network.",
                ("sum by (state) (sluice_neighbours{$where})", "{{state}}"), stacked=True,
            )
        )
    )


def nat():
    """Do ports run out, and what do helpers announce?"""
    reasons = 'reason=~"nat_.*|policy_nat"'
    pools = "sluice_nat_pool_ports_used{$where} / sluice_nat_pool_ports{$where}"
    name = "{{instance}} {{pool}} {{interface}} {{family}} {{protocol}}"
    return (
        board("nat", "NAT and helpers", "Ports of the pools that sources are given, failures of translation, and what helpers announce.")
        .with_panel(
            number("Fullest pool", "percentunit", "Ports in use of the fullest pool and protocol.", f"max by (instance) ({pools})", FILLING, width=6)
        )
        .with_panel(
            number(
                "No port free", "pps", "First packets dropped because no port was free for their flow.",
                f'sum by (instance) (rate(sluice_drops_total{{$where,reason="nat_exhausted"}}{RATE}))', ANY_IS_BAD, width=6,
            )
        )
        .with_panel(
            number("Reservations", "short", "Answers that workers have reserved of each other; 0 with one worker.",
                   "sluice_nat_reservations{$where}", width=6)
        )
        .with_panel(
            number("Counted", "dateTimeFromNow", "When the use of ports was counted last.",
                   "sluice_nat_counted_timestamp_seconds{$where} * 1000", width=6)
        )
        .with_panel(
            graph("Use of pools", "percentunit", "Different ports in use, of those that there are. One port serves flows to many destinations.",
                  (pools, name), width=12)
        )
        .with_panel(graph("Ports in use", "short", "The same as numbers.", ("sluice_nat_pool_ports_used{$where}", name), width=12))
        .with_panel(
            graph("Dropped by translation", "pps", "By reason; `sluice show drops` explains them.",
                  (f"sum by (reason) (rate(sluice_drops_total{{$where,{reasons}}}{RATE}))", "{{reason}}"))
        )
        .with_panel(
            graph("No port free, by pool", "pps", "First packets dropped because the pool had no free port for their flow.",
                  (f"sum by (instance, pool) (rate(sluice_nat_pool_exhausted_total{{$where}}{RATE}))", "{{instance}} {{pool}}"))
        )
        .with_panel(
            graph("Flows not counted", "short", "Flows with more different addresses than are counted: the use of pools is larger than shown.",
                  ("sluice_nat_uncounted_flows{$where}", "{{instance}}"))
        )
        .with_panel(
            graph(
                "Helpers", "ops", "Expectations made, used by a flow, and gone.",
                *((f"sum(rate(sluice_conntrack_expect_{what}_total{{$where}}{RATE}))", what) for what in ("create", "new", "delete")),
            )
        )
        .with_panel(
            graph("Expected connections", "short", "Announced and not come yet.", ("sluice_conntrack_expectations{$where}", "{{instance}}"))
        )
        .with_panel(
            graph(
                "Dropped by helpers", "pps", "Commands that were cut, could not be expected, or could not be written anew.",
                (f'sum by (reason) (rate(sluice_drops_total{{$where,reason=~"helper_.*"}}{RATE}))', "{{reason}}"),
            )
        )
        .with_panel(
            listing("Pools", "short", "Ports in use of each pool and protocol.",
                    "sort_desc(sum by (instance, pool, interface, family, protocol) (sluice_nat_pool_ports_used{$where}))", width=8)
        )
    )


ALL = {board.__name__: board for board in (overview, interfaces, conntrack, policy, workers, nat)}
