// Asks for the router's counters every two seconds and shows what they rose by. Whatever comes is put in as text, never
// as HTML: names, rules and addresses are other people's words.
"use strict";

const EVERY = 2000;
let before = null;

const id = (name) => document.getElementById(name);

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// 1234567 as 1.23 M.
function short(value) {
  for (const [unit, size] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  }
  return value >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

const share = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–");

function duration(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : `${minutes} min ${seconds % 60} s`;
}

// Columns are [title, kind]; cells are text, or elements.
function table(name, columns, rows, nothing) {
  const head = element("tr");
  for (const [title, kind] of columns) head.append(element("th", title, kind));
  const lines = rows.map((row) => {
    const line = element("tr", undefined, row.kind);
    row.cells.forEach((cell, at) => {
      const made = element("td", undefined, columns[at][1]);
      made.append(cell);
      line.append(made);
    });
    return line;
  });
  if (lines.length) id(name).replaceChildren(head, ...lines);
  else id(name).replaceChildren(element("caption", nothing, "note"));
}

function list(name, pairs) {
  id(name).replaceChildren(...pairs.map(([title, value]) => {
    const pair = element("div");
    pair.append(element("dt", title), element("dd", value));
    return pair;
  }));
}

// How a counter rose in a second. What was not there before, or began again at 0, has not risen yet.
function rate(now, old, seconds) {
  return old === undefined || now < old || seconds <= 0 ? 0 : (now - old) / seconds;
}

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
const by = (items, key) => new Map((items || []).map((item) => [key(item), item]));

function interfaces(now, old, seconds) {
  const known = by(old && old.interfaces, (i) => i.name);
  table("interfaces", [["Interface"], ["Link"], ["rx packets/s", "number"], ["rx bit/s", "number"], ["tx packets/s", "number"],
    ["tx bit/s", "number"], ["lost by the device", "number"]], now.interfaces.map((i) => {
    const was = known.get(i.name) || {};
    const link = element("span", i.port.link_up ? "up" : "down", i.port.link_up ? "" : "bad");
    const lost = i.port.rx_missed + i.port.rx_nombuf + i.port.rx_errors;
    const name = element("span", i.name);
    name.append(element("span", i.addresses.join(", "), "note"));
    return { cells: [name, link, short(rate(i.rx_packets, was.rx_packets, seconds)), short(8 * rate(i.rx_bytes, was.rx_bytes, seconds)),
      short(rate(i.tx_packets, was.tx_packets, seconds)), short(8 * rate(i.tx_bytes, was.tx_bytes, seconds)), short(lost)] };
  }), "no interface");
}

function workers(now, old, seconds) {
  const known = by(old && old.workers, (w) => w.worker);
  table("workers", [["Worker", "number"], ["Core", "number"], ["Busy", "number"], ["Packets/s", "number"], ["Fast path", "number"],
    ["Flows", "number"]], now.workers.map((w) => {
    const was = known.get(w.worker) || w;
    const busy = w.busy_cycles - was.busy_cycles, idle = w.idle_cycles - was.idle_cycles;
    return { cells: [w.worker, w.core, share(busy, busy + idle), short(rate(w.packets, was.packets, seconds)),
      share(w.fast_path - was.fast_path, w.packets - was.packets), short(w.flows)].map(String) };
  }), "no worker");
}

function flows(now, old, seconds) {
  const total = (state, field) => state ? sum(state.conntrack.map((s) => s[field])) : undefined;
  list("flows", [
    ["in the table", short(now.flows.count)],
    ["of at most", now.flows.max ? short(now.flows.max) : "no limit"],
    ["new/s", short(rate(total(now, "insert"), total(old, "insert"), seconds))],
    ["evicted", short(total(now, "early_drop"))],
    ["refused", short(total(now, "drop") + total(now, "insert_failed"))],
  ]);
  id("full").hidden = !now.flows.max;
  id("full").value = now.flows.max ? now.flows.count / now.flows.max : 0;
}

function drops(now, old, seconds) {
  const all = (d) => sum(d.received) + sum(d.local);
  const known = by(old && old.drops, (d) => d.reason);
  const seen = now.drops.filter((d) => all(d) > 0).map((d) => {
    const was = known.get(d.reason);
    return { drop: d, total: all(d), rate: rate(all(d), was && all(was), seconds) };
  });
  seen.sort((a, b) => b.rate - a.rate || b.total - a.total);
  table("drops", [["Reason"], ["Packets/s", "number"], ["Since the start", "number"]], seen.map((s) => {
    const reason = element("span");
    reason.append(element("span", s.drop.reason, "code"));
    for (const sentence of [s.drop.meaning, s.drop.advice]) if (sentence) reason.append(element("span", sentence, "note"));
    return { kind: s.rate > 0 ? "" : "still", cells: [reason, short(s.rate), short(s.total)] };
  }), "nothing was dropped");
}

function rules(now, old, seconds) {
  const key = (r) => `${r.table}.${r.chain} ${r.index} ${r.text}`;
  const known = by(old && old.rules, key);
  table("rules", [["Rule"], ["Packets/s", "number"], ["bit/s", "number"], ["Packets", "number"]], now.rules.map((r) => {
    const was = known.get(key(r)) || {};
    const packets = rate(r.packets, was.packets, seconds);
    const rule = element("span", r.name ? `${r.table}.${r.chain}: ${r.name}` : `${r.table}.${r.chain} ${r.index}`);
    rule.append(element("span", r.text, "note code"));
    return { kind: packets > 0 ? "" : "still",
      cells: [rule, short(packets), short(8 * rate(r.bytes, was.bytes, seconds)), short(r.packets)] };
  }), "no rule has matched yet");
}

function talkers(now) {
  table("talkers", [["Source"], ["Flows", "number"], ["of all", "number"], ["unanswered", "number"]],
    now.talkers.rows.map((t) => ({ cells: [element("span", t.key, "code"), short(t.flows), share(t.flows, now.talkers.counted), short(t.unreplied)] })),
    "no flow");
}

function show(now) {
  // The same document again, made for somebody else.
  if (before && before.time === now.time) return;
  const old = before && before.status.pid === now.status.pid ? before : null;
  const seconds = old ? now.time - old.time : 0;
  list("facts", [
    ["version", now.status.version],
    ["up", duration(now.status.uptime)],
    ["generation", String(now.status.generation)],
    ["policy", now.status.policy_digest.slice(0, 12)],
    ["rules", short(now.rule_count)],
  ]);
  for (const part of [interfaces, workers, flows, drops, rules, talkers]) part(now, old, seconds);
  before = now;
}

async function ask() {
  const trouble = id("trouble");
  try {
    const answer = await fetch("page/state", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `No answer from the router at ${new Date().toLocaleTimeString()}: ${error.message}`;
    trouble.hidden = false;
  }
  setTimeout(ask, EVERY);
}

ask();
