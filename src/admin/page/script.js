"use strict";
const byId = id => document.getElementById(id);
const SVG = "http:" + "//www.w3.org/2000/svg";
// Everything from the server goes in as text, never as markup.
function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const el = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);
const pill = (kind, text) => el("span", { class: "pill " + kind }, text);
const show = (id, ...children) => byId(id).replaceChildren(...children);
const number = n => n.toLocaleString("en-US");
const short = n => n >= 1e6 ? (n / 1e6).toFixed(1) + "M" : n >= 1e4 ? (n / 1e3).toFixed(0) + "k" : n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1).replace(/\.0$/, "") : n.toFixed(2).replace(/\.?0+$/, "");
function bytes(n) {
  if (n < 1024) return n.toFixed(0) + " B";
  for (const unit of ["KiB", "MiB", "GiB"]) { n /= 1024; if (n < 1024) return n.toFixed(1) + " " + unit; }
  return (n / 1024).toFixed(1) + " TiB";
}
function span(ms) {
  if (ms < 10) return ms.toFixed(1) + " ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  const s = ms / 1000;
  if (s < 60) return s.toFixed(1) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
  return Math.floor(s / 3600) + " h " + Math.floor(s / 60 % 60) + " min";
}
const clock = at => at.slice(11, 19);

// ---- rates ----
let before = null;
function rates(now) {
  const seconds = before ? (now.uptime_ms - before.uptime_ms) / 1000 : 0;
  const per = (a, b) => seconds > 0 && a >= b ? (a - b) / seconds : 0;
  const old = name => before && before.traffic.find(t => t.node === name);
  const nodes = now.traffic.map(t => per(t.requests, old(t.node) ? old(t.node).requests : t.requests));
  return { tps: before ? per(now.transactions, before.transactions) : 0, nodes };
}
// A primary that does not answer is one still until another takes its place.
const health = n => n.role === "unknown" || n.unreadable === "down" ? "bad" : n.readable ? "good" : "warn";

// ---- topology: clients, primacy, nodes; the thickness of a line is what goes over it ----
function drawTopology(status, rate) {
  const narrow = byId("topology").clientWidth < 620;
  const width = narrow ? 360 : 1100, rows = status.nodes.length, step = 92;
  const boxX = narrow ? 130 : 640, boxW = width - boxX - 4, height = Math.max(rows * step, 120);
  const hubX = narrow ? 42 : 330, hubY = height / 2, busiest = Math.max(1, ...rate.nodes);
  const middle = i => i * step + step / 2;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img",
    "aria-label": status.nodes.map(n => `${n.name} is ${n.role}, ${n.readable ? "serves reads" : n.unreadable || "serves nothing"}`).join("; ") });
  const primary = status.nodes.findIndex(n => n.name === status.primary);
  status.nodes.forEach((n, i) => {
    const y = middle(i), load = (rate.nodes[i] || 0) / busiest, kind = rate.nodes[i] > 0 ? health(n) : "line";
    const path = `M ${hubX + 40} ${hubY} C ${(hubX + boxX) / 2} ${hubY}, ${(hubX + boxX) / 2 + 10} ${y}, ${boxX} ${y}`;
    picture.append(svg("path", { class: "link s-" + kind + (rate.nodes[i] > 0 ? " flow" : ""), d: path, "stroke-width": (1.5 + 7 * load).toFixed(1), "stroke-dasharray": rate.nodes[i] > 0 ? "14 6" : "none" }));
    if (n.streams_from && i !== primary) {
      const from = status.nodes.findIndex(other => other.name === n.streams_from);
      if (from >= 0) picture.append(svg("path", { class: "wal", d: `M ${width - 14} ${middle(from)} C ${width + 2} ${middle(from)}, ${width + 2} ${y}, ${width - 14} ${y}` }));
    }
  });
  if (!narrow) {
    picture.append(svg("path", { class: "link s-info", d: `M 150 ${hubY} L ${hubX - 60} ${hubY}`, "stroke-width": 3 }),
      svg("rect", { class: "nodebox s-line", x: 4, y: hubY - 32, width: 146, height: 64, rx: 10 }),
      svg("text", { class: "strong", x: 20, y: hubY - 5 }, number(status.clients) + (status.clients === 1 ? " client" : " clients")),
      svg("text", { class: "soft", x: 20, y: hubY + 15 }, short(rate.tps) + " transactions/s"));
  }
  const tone = { open: "good", held: "warn", "read-only": "bad" }[status.service] || "info";
  picture.append(svg("rect", { class: "nodebox s-" + tone, x: hubX - (narrow ? 40 : 62), y: hubY - 30, width: narrow ? 82 : 124, height: 60, rx: 10 }),
    svg("text", { class: "strong", x: hubX, y: hubY - 4, "text-anchor": "middle" }, "primacy"),
    svg("text", { class: "soft", x: hubX, y: hubY + 15, "text-anchor": "middle" }, status.service));
  status.nodes.forEach((n, i) => {
    const y = middle(i), kind = n.role === "primary" && n.readable ? "info" : health(n);
    const traffic = status.traffic[i] || { leased: 0, connections: 0 };
    const state = n.role === "primary" ? "primary" : n.readable ? "replica" : n.role + ": " + (n.unreadable || "serves no reads");
    const lag = n.role === "primary" ? "" : bytes(n.lag_bytes) + " behind";
    const load = short(rate.nodes[i] || 0) + "/s, " + traffic.leased + " of " + traffic.connections + " connections";
    picture.append(svg("rect", { class: "nodebox s-" + kind, x: boxX, y: y - 38, width: boxW - 14, height: 76, rx: 10 }),
      svg("rect", { class: "f-" + kind, x: boxX, y: y - 38, width: 8, height: 76, rx: 4 }),
      svg("text", { class: "strong", x: boxX + 20, y: y - 14 }, n.name + "  " + (n.role === "primary" ? "★" : "")),
      svg("text", { x: boxX + 20, y: y + 6 }, state + (lag && n.role !== "unknown" ? " · " + lag : "")),
      svg("text", { class: "soft", x: boxX + 20, y: y + 26 }, n.error ? n.error.slice(0, narrow ? 30 : 60) : load));
  });
  show("topology", picture);
}

function drawNodes(status, rate) {
  show("nodes", ...status.nodes.map((n, i) => {
    const traffic = status.traffic[i] || { leased: 0, connections: 0 };
    const role = n.role === "primary" ? pill("info", "primary") : n.role === "replica" ? pill("good", "replica") : pill("bad", "unknown");
    const reads = n.readable ? pill("good", "yes") : pill(health(n), n.unreadable || "no");
    const incomparable = n.role === "primary" || n.answered_ms_ago == null;
    const more = [n.address, n.zone, n.sync_state, n.standing !== "member" && n.standing, n.error].filter(Boolean).join(" · ");
    return el("tr", {},
      el("td", {}, el("b", {}, n.name), el("div", { class: "sub" }, more)),
      el("td", {}, role), el("td", {}, reads),
      el("td", { class: "n" }, String(n.timeline)), el("td", { class: "n" }, n.replayed),
      el("td", { class: "n" }, incomparable ? "–" : bytes(n.lag_bytes), el("div", { class: "sub" }, incomparable ? "" : span(n.lag_ms))),
      el("td", { class: "n" }, traffic.leased + " / " + traffic.connections),
      el("td", { class: "n" }, number(Math.round(rate.nodes[i] || 0))));
  }));
}

// ---- curves ----
const KEYS = 8;
// `lines`: [{ name, values }], null where there is no value; `marks`: [{ at, kind }].
function chart(id, lines, labels, unit, stacked) {
  // Letters keep their size where there is less room.
  const width = byId(id).clientWidth < 420 ? 340 : 520, height = 150, left = 72, bottom = 18, top = 8, count = labels.length;
  if (count < 2) return show(id, el("div", { class: "sub" }, "Figures come after a few seconds."));
  const values = lines.map(line => line.values);
  let tops = values;
  if (stacked) {
    const sum = new Array(count).fill(0);
    tops = values.map(row => row.map((v, i) => (sum[i] += v || 0)));
  }
  const max = Math.max(1e-9, ...tops.flat().filter(v => v !== null)) * 1.08;
  const x = i => left + (width - left - 4) * i / (count - 1), y = v => height - bottom - (height - bottom - top) * v / max;
  const box = svg("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img", "aria-label": lines.map(l => l.name + " " + unit(l.values[count - 1] || 0)).join(", ") });
  for (const share of [0, 0.5, 1]) {
    const at = y(max / 1.08 * share);
    box.append(svg("line", { class: "grid", x1: left, x2: width - 4, y1: at, y2: at }), svg("text", { class: "soft", x: left - 6, y: at + 4, "text-anchor": "end" }, unit(max / 1.08 * share)));
  }
  box.append(svg("text", { class: "soft", x: left, y: height - 3 }, clock(labels[0])), svg("text", { class: "soft", x: width - 4, y: height - 3, "text-anchor": "end" }, clock(labels[count - 1])));
  tops.forEach((row, n) => {
    if (stacked) {
      const low = n === 0 ? row.map(() => 0) : tops[n - 1];
      const there = row.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`), back = low.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).reverse();
      box.append(svg("polygon", { class: "a" + n % KEYS, points: there.concat(back).join(" ") }));
    } else {
      let path = "", pen = false;
      row.forEach((v, i) => { if (v === null) { pen = false; } else { path += `${pen ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`; pen = true; } });
      box.append(svg("path", { class: "curve l" + n % KEYS, d: path || "M0 0" }));
    }
  });
  const legend = lines.map((line, n) => el("span", {}, el("span", { class: "key k" + n % KEYS }), line.name + " ", el("b", {}, line.values[count - 1] === null ? "–" : unit(line.values[count - 1]))));
  show(id, box, el("div", { class: "legend" }, ...legend));
}
function drawSeries(series) {
  const samples = series.samples, labels = samples.slice(1).map(s => s.at), seconds = series.every_ms / 1000;
  const deltas = pick => samples.slice(1).map((s, i) => Math.max(0, (pick(s) - pick(samples[i])) / seconds));
  chart("by-node", series.nodes.map((name, n) => ({ name, values: deltas(s => s.nodes[n] ? s.nodes[n].requests : 0) })), labels, short, true);
  const last = samples.length ? samples[samples.length - 1].reasons : {};
  const first = samples.length ? samples[0].reasons : {};
  const reasons = Object.keys(last).sort((a, b) => (last[b] - (first[b] || 0)) - (last[a] - (first[a] || 0))).slice(0, KEYS);
  chart("by-reason", reasons.map(name => ({ name, values: deltas(s => s.reasons[name] || 0) })), labels, short, true);
  chart("latency", [["p50", "p50_ms"], ["p99", "p99_ms"]].map(([name, key]) => ({ name, values: samples.slice(1).map(s => s[key]) })), labels, short, false);
  chart("lag", series.nodes.map((name, n) => ({ name, values: samples.slice(1).map(s => s.nodes[n] ? s.nodes[n].lag_bytes : null) })), labels, bytes, false);
}

// ---- changes of primary: one bar per step, as long as it took ----
function drawHistory(changes) {
  if (changes.length === 0) return show("history", el("div", { class: "empty" }, "None since the journal began."));
  show("history", ...changes.slice(-6).reverse().map(c => {
    const total = c.steps.length ? c.steps[c.steps.length - 1].after_ms : 0;
    const verdict = c.to ? pill("good", c.cause) : pill("bad", "given up");
    const head = el("p", {}, el("b", {}, `${c.from || "–"} → ${c.to || "nobody"}  `), verdict, ` ${span(total)} `,
      el("span", { class: "sub" }, `${c.at.replace("T", " ").slice(0, 19)} UTC · epoch ${c.epoch} · timeline ${c.timeline} · ${c.rule}${c.abandoned ? " · " + c.abandoned : ""}${c.lost ? " · WAL lost after " + c.lost.after : ""}`));
    const width = 1000, bar = svg("svg", { viewBox: `0 0 ${width} 22`, width: "100%", height: 22, preserveAspectRatio: "none", role: "img", "aria-label": c.steps.map(s => `${s.step} after ${Math.round(s.after_ms)} ms`).join(", ") });
    let from = 0;
    const legend = c.steps.map((s, n) => {
      const took = s.after_ms - from, x = total > 0 ? from / total * width : 0;
      bar.append(svg("rect", { class: "a" + n % KEYS, x, y: 2, width: total > 0 ? Math.max(1, took / total * width) : 1, height: 18 }));
      from = s.after_ms;
      return el("span", {}, el("span", { class: "key k" + n % KEYS }), s.step + " ", el("b", {}, "+" + span(took)));
    });
    return el("div", { class: "change" }, head, bar, el("div", { class: "legend" }, ...legend));
  }));
}
function table(id, head, rows, empty) {
  if (rows.length === 0) return show(id, el("div", { class: "empty" }, empty));
  const cell = (tag, text, n) => { const [words, kind] = Array.isArray(text) ? text : [text, ""]; return el(tag, { class: kind, ...(tag === "th" ? { scope: "col" } : {}) }, words); };
  show(id, el("table", {}, el("thead", {}, el("tr", {}, ...head.map(t => cell("th", t)))), el("tbody", {}, ...rows.map(row => el("tr", {}, ...row.map(t => cell("td", t)))))));
}
function drawSessions(s) {
  table("pools", ["Database", "Role", "Node", ["Open", "n"], ["Idle", "n"], ["Waiting", "n"]],
    s.pools.filter(p => p.connections + p.waiting > 0).slice(0, 40).map(p => [p.database, p.user, p.node, [String(p.connections), "n"], [String(p.idle), "n"], [String(p.waiting), "n"]]), "No server connection is open.");
  const waits = s.waits.slice(0, 20).map(w => [String(w.client), w.user, w.database, ["waits " + span(w.waited_ms), "n"]]);
  const pins = s.pins.slice(0, 20).map(p => [String(p.client), p.user, p.database, ["pinned" + (p.node ? " to " + p.node : "") + ": " + p.cause, "n"]]);
  table("waits", ["Client", "Role", "Database", ["What", "n"]], waits.concat(pins), "Nobody waits, nobody is pinned.");
}
function drawReads(r) {
  const all = r.reads_on_replicas + r.reads_on_primary;
  table("reads", ["Statement", ["Count", "n"], "Why", "What would change it"],
    r.reads.slice(0, 8).map(read => [[el("code", {}, read.statement.slice(0, 300)), "wide"], [number(read.count), "n"], read.reason, [read.change, "wide sub"]]),
    all > 0 ? `None: all of ${number(all)} reads were served by replicas.` : "No reads yet.");
}
function drawEvents(events) {
  table("events", ["At", "Kind", "Node", "What"], events.slice(-20).reverse().map(e => [[clock(e.at), "sub"], e.kind, e.node || "", [e.text, "wide"]]), "None yet.");
}
function drawStatus(status) {
  const rate = rates(status);
  const kind = { open: "good", held: "warn", "read-only": "bad" }[status.service] || "info";
  byId("service").className = "pill " + kind;
  if (byId("service").textContent !== status.service) byId("service").textContent = status.service;
  show("mode", status.automatic ? pill("good", "automatic failover") : pill("warn", "failover paused"));
  byId("do-pause").hidden = !status.automatic;
  byId("do-resume").hidden = status.automatic;
  byId("phase").textContent = [status.state, status.reason].filter(Boolean).join(": ");
  show("alarms", ...status.alarms.map(text => el("div", { class: "alarm bad" }, text)));
  const fact = (value, label) => el("div", { class: "fact" }, el("b", {}, String(value)), el("span", {}, label));
  const total = rate.nodes.reduce((a, b) => a + b, 0), first = status.nodes.findIndex(n => n.name === status.primary);
  const share = total > 0 ? Math.round(100 * (total - (rate.nodes[first] || 0)) / total) + " %" : "–";
  show("facts",
    fact(status.primary || "none", "primary"), fact(number(status.clients), status.clients === 1 ? "client" : "clients"),
    fact(number(Math.round(rate.tps)), "transactions/s"), fact(share, "of requests on replicas"), fact(status.epoch, "epoch"), fact(status.timeline, "timeline"),
    fact(!status.quorum ? "–" : status.quorum.standbys ? "quorum " + status.quorum.standbys : "async", "durability"),
    fact(span(status.uptime_ms), "up, v" + status.version));
  drawTopology(status, rate);
  drawNodes(status, rate);
  before = status;
}

// ---- what a person does; the token stays in this page's memory ----
let verb = null, opened = 0;
function openDialog(which, title, text, go) {
  verb = which;
  opened++;
  byId("dialog-title").textContent = title;
  byId("dialog-text").textContent = text;
  byId("answer").textContent = "";
  byId("go").textContent = go;
  byId("go").disabled = false;
  byId("dialog-node").hidden = which !== "switchover";
  const replicas = before ? before.nodes.filter(n => n.role === "replica" && n.standing === "member") : [];
  show("to", el("option", { value: "" }, "the best replica"), ...replicas.map(n => el("option", { value: n.name }, n.name)));
  byId("dialog").showModal();
}
byId("do-switchover").onclick = () => openDialog("switchover", "Switchover", "The primary hands its role to a replica. Statements wait for a moment; nothing is lost, nothing fails.", "Switch over");
byId("do-token").onclick = () => openDialog("look", "Token", "What is refused without it is shown with it. This page forgets it when it is closed.", "Use it");
byId("do-pause").onclick = () => openDialog("pause", "Pause automatic failover", "From then on nobody replaces a primary that fails, until somebody resumes.", "Pause");
byId("do-resume").onclick = () => openDialog("resume", "Resume automatic failover", "A primary that fails is replaced again.", "Resume");
// Enter does what the dialog is for; without this it would be what closes it.
byId("token").onkeydown = event => { if (event.key === "Enter") { event.preventDefault(); byId("go").click(); } };
// What was pressed may have given its place to another button.
byId("dialog").onclose = () => {
  const instead = { pause: "do-resume", resume: "do-pause" }[verb];
  if (instead && !byId(instead).hidden) byId(instead).focus();
};
const bearer = headers => { if (byId("token").value) headers.Authorization = "Bearer " + byId("token").value; return headers; };
byId("go").onclick = async () => {
  if (verb === "look") { asked = 0; return byId("dialog").close(); }
  const headers = bearer({ "Content-Type": "application/json" });
  const to = byId("to").value, body = verb === "switchover" ? JSON.stringify(to ? { to } : {}) : "{}";
  // An answer that comes late is not shown as that of what was asked for since.
  const mine = opened;
  const say = text => { if (mine === opened) byId("answer").textContent = text; };
  byId("go").disabled = true;
  say("working …");
  try {
    const answer = await fetch("/api/v1/" + verb, { method: "POST", headers, body });
    say((await answer.json()).message);
  } catch (error) {
    say("no answer: " + error.message);
  }
  if (mine === opened) byId("go").disabled = false;
};

// ---- again and again ----
const REFUSED = 401;
async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", headers: bearer({}) });
  if (answer.status === REFUSED) byId("do-token").hidden = false;
  if (!answer.ok) throw Object.assign(new Error("status " + answer.status), { status: answer.status });
  return answer.json();
}
// Where statement texts need a token, the rest of the page does without.
async function askReads() {
  try {
    drawReads(await ask("/api/v1/routes?top=8"));
  } catch (error) {
    if (error.status !== REFUSED) throw error;
    show("reads", el("div", { class: "empty" }, "Statement texts are shown with a token."));
  }
}
let asked = 0;
async function refresh() {
  try {
    drawStatus(await ask("/api/v1/status"));
    if (asked++ % 2 === 0) {
      drawSeries(await ask("/api/v1/series"));
      drawHistory(await ask("/api/v1/history"));
      drawSessions(await ask("/api/v1/sessions"));
      drawEvents(await ask("/api/v1/events"));
    }
    if (asked % 5 === 1) await askReads();
  } catch (error) {
    byId("service").className = "pill bad";
    byId("service").textContent = error.status === REFUSED ? "a token is needed" : "primacy does not answer";
  }
  setTimeout(refresh, 1000);
}
refresh();
