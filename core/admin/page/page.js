// SPDX-License-Identifier: MIT
// The status page: what /api/v1/events sends, drawn.  Texts are set as text, never as markup: peers choose some of them.
"use strict";

const byId = id => document.getElementById(id);
const past = [];             // the last states, for rates
const WINDOW = 6;            // of them, so rates are over about five seconds
const SVG = "http://www.w3.org/2000/svg";

// ---- texts ----

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const short = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++)
    n /= 1024;
  return (n >= 100 || i === 0 ? n.toFixed(0) : n.toFixed(1)) + " " + units[i];
}

function span(seconds) {
  const s = Math.floor(Math.abs(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = Math.max(0, parts.findIndex(p => s >= p[0]));
  if (s === 0)
    return "0s";
  const [size, unit] = parts[first], next = parts[first + 1];
  const rest = next ? Math.floor(s % size / next[0]) : 0;
  return Math.floor(s / size) + unit + (rest ? rest + next[1] : "");
}

function perSecond(n) {
  return (n >= 10000 ? short.format(n) : n >= 10 || n === 0 ? whole.format(n) : n.toFixed(1)) + "/s";
}

// ---- elements ----

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {}))
    element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {}))
    element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function say(element, text) { // only what changes, so that selections and screen readers are left alone
  if (element.textContent !== text)
    element.textContent = text;
}

function setClass(element, name) {
  if (element.getAttribute("class") !== name)
    element.setAttribute("class", name);
}

// Rows by key, kept from state to state.  A column: {head, text(row), value(row), number, mark(row), meter(row)}
function fillTable(table, columns, rows, key, caption) {
  if (!table.tHead) {
    table.append(make("caption", {class: "skip"}, caption), make("thead", {}, make("tr", {},
      ...columns.map(c => make("th", {scope: "col", class: c.number ? "number" : ""}, c.head)))), make("tbody"));
    table.rowsByKey = new Map();
  }
  const body = table.tBodies[0], old = table.rowsByKey;
  table.rowsByKey = new Map();
  for (const row of rows) {
    const name = key(row);
    let tr = old.get(name);
    old.delete(name);
    if (!tr) {
      tr = make("tr", {}, ...columns.map((c, i) => i === 0 ? make("th", {scope: "row"}) :
        make("td", {class: c.number ? "number" : "text", "data-label": c.head})));
      if (table.dataset.prefix)
        tr.id = table.dataset.prefix + name;
    }
    columns.forEach((c, i) => fillCell(tr.cells[i], c, row, i));
    if (body.rows[table.rowsByKey.size] !== tr)
      body.insertBefore(tr, body.rows[table.rowsByKey.size] || null);
    table.rowsByKey.set(name, tr);
  }
  old.forEach(tr => tr.remove());
}

function fillCell(cell, column, row, index) {
  const text = column.text(row), mark = column.mark ? column.mark(row) : "";
  if (column.value)
    cell.dataset.value = column.value(row);
  if (column.meter) {
    if (!cell.firstChild)
      cell.append(make("meter", {min: 0, max: 100, low: 60, high: 85, optimum: 0, "aria-label": column.head}), make("span"));
    cell.firstChild.value = column.meter(row);
    say(cell.lastChild, " " + text);
  } else {
    say(cell, text);
  }
  if (index > 0)
    setClass(cell, (column.number ? "number " : "text ") + mark + (text === "" ? " empty" : ""));
}

// ---- rates ----

function remember(state) {
  const last = past[past.length - 1];
  if (last && (state.monotonic_seconds <= last.monotonic_seconds || state.process.pid !== last.process.pid))
    past.length = 0; // it was started anew
  if (last && state.process.pid !== last.process.pid)
    lastLine = 0;
  past.push(state);
  if (past.length > WINDOW)
    past.shift();
}

function rates(state) {
  const first = past[0], seconds = state.monotonic_seconds - first.monotonic_seconds;
  const before = new Map(first.components.map(c => [c.id, c]));
  return new Map(state.components.map(c => {
    const was = before.get(c.id) || c, rate = key => seconds > 0 ? Math.max(0, c[key] - was[key]) / seconds : 0;
    return [c.id, {in: rate("in"), out: rate("out"), filtered: rate("filtered"), dropped: rate("dropped")}];
  }));
}

const percent = q => Math.min(100, 100 * Math.max(q.events / q.capacity_events, q.bytes / q.capacity_bytes));
const level = p => p > 85 ? "bad" : p > 60 ? "warn" : "";

// ---- the graph: ranks from the sources on, each rank in the order that crosses least ----

function ranked(components, queues) {
  const rank = new Map(components.map(c => [c.id, 0]));
  for (let round = 0, moved = true; moved && round < components.length; round++) {
    moved = false;
    for (const q of queues)
      if (rank.get(q.to) < rank.get(q.from) + 1) {
        rank.set(q.to, rank.get(q.from) + 1);
        moved = true;
      }
  }
  const layers = [];
  for (const c of components)
    (layers[rank.get(c.id)] ||= []).push(c.id);
  const place = new Map();
  layers.forEach(layer => layer.forEach((id, i) => place.set(id, i)));
  const beside = (id, from, to) => queues.filter(q => q[from] === id).map(q => place.get(q[to]));
  for (let sweep = 0; sweep < 6; sweep++)
    for (const layer of sweep % 2 ? layers.slice().reverse() : layers) {
      const [from, to] = sweep % 2 ? ["from", "to"] : ["to", "from"];
      const middle = new Map(layer.map((id, i) => {
        const n = beside(id, from, to);
        return [id, n.length ? n.reduce((a, b) => a + b, 0) / n.length : i];
      }));
      layer.sort((a, b) => middle.get(a) - middle.get(b));
      layer.forEach((id, i) => place.set(id, i));
    }
  return layers;
}

// Where each component stands, in rows: next to what it reads from where that is free.
function positions(layers, queues) {
  const row = new Map();
  const tallest = Math.max(...layers.map(l => l.length));
  layers.forEach((layer, rank) => {
    let next = 0;
    layer.forEach((id, i) => {
      const near = queues.filter(q => q.to === id && row.has(q.from)).map(q => row.get(q.from));
      const wish = near.length ? near.reduce((a, b) => a + b, 0) / near.length : rank ? 0 : (i + .5) * tallest / layer.length - .5;
      const latest = Math.max(next, tallest - layer.length + i);
      row.set(id, Math.max(next, Math.min(wish, latest)));
      next = row.get(id) + 1;
    });
  });
  return row;
}

let drawn = ""; // what the graph shows, to lay it out anew when that changes
const nodes = new Map(), edges = [];

function layOut(state) {
  const phone = window.innerWidth <= 640, small = state.components.length > 40;
  const form = JSON.stringify([phone, state.components.map(c => [c.id, c.kind, c.type]), state.queues.map(q => [q.from, q.output, q.to])]);
  if (form === drawn)
    return;
  drawn = form;
  nodes.clear();
  edges.length = 0;
  const layers = ranked(state.components, state.queues), row = positions(layers, state.queues);
  const w = phone ? 156 : 190, h = small ? 44 : 82, gapX = phone ? 14 : 110, gapY = phone ? 52 : small ? 10 : 22, edge = 16;
  const at = new Map();
  layers.forEach((layer, rank) => layer.forEach(id => {
    const across = row.get(id);
    at.set(id, phone ? {x: edge + across * (w + gapX), y: edge + rank * (h + gapY)} :
      {x: edge + rank * (w + gapX), y: edge + across * (h + gapY)});
  }));
  const all = [...at.values()];
  const width = Math.max(...all.map(p => p.x)) + w + edge, height = Math.max(...all.map(p => p.y)) + h + edge;
  const svg = draw("svg", {width, height, viewBox: `0 0 ${width} ${height}`});
  state.queues.forEach(q => svg.append(drawEdge(q, at.get(q.from), at.get(q.to), w, h, phone)));
  state.components.forEach(c => svg.append(drawNode(c, at.get(c.id), w, h, small)));
  byId("graph").replaceChildren(svg);
}

function drawEdge(q, from, to, w, h, phone) {
  const a = phone ? {x: from.x + w / 2, y: from.y + h} : {x: from.x + w, y: from.y + h / 2};
  const b = phone ? {x: to.x + w / 2, y: to.y} : {x: to.x, y: to.y + h / 2};
  const bar = phone ? {x: b.x - 22, y: b.y - 20} : {x: b.x - 56, y: b.y - 5};
  const end = phone ? {x: b.x, y: b.y - 22} : {x: b.x - 58, y: b.y};
  const bend = phone ? `M${a.x} ${a.y}C${a.x} ${a.y + 18} ${end.x} ${end.y - 14} ${end.x} ${end.y}L${b.x} ${b.y - 2}` :
    `M${a.x} ${a.y}C${a.x + 26} ${a.y} ${end.x - 26} ${end.y} ${end.x} ${end.y}L${b.x - 2} ${b.y}`;
  const fill = draw("rect", {class: "fill", x: bar.x, y: bar.y, width: 0, height: 10});
  const title = draw("title"), number = draw("text", {class: "percent", x: bar.x + 22, y: phone ? bar.y - 3 : bar.y - 4, "text-anchor": "middle"});
  const group = draw("g", {class: "edge"}, title, draw("path", {d: bend}),
    draw("rect", {class: "track", x: bar.x, y: bar.y, width: 44, height: 10, rx: 2}), fill, number);
  edges.push({group, fill, title, number});
  return group;
}

function drawNode(c, at, w, h, small) {
  const texts = {flow: draw("text", {x: 10, y: small ? 36 : 55}), loss: draw("text", {x: 10, y: 72})};
  const id = draw("text", {class: "id", x: 10, y: small ? 19 : 20}, c.id.length > 22 ? c.id.slice(0, 21) + "\u2026" : c.id);
  const title = draw("title");
  const group = draw("a", {class: "node " + c.kind, href: "#component-" + c.id, transform: `translate(${at.x} ${at.y})`}, title,
    draw("rect", {class: "box", width: w, height: h, rx: 5}), id, texts.flow);
  if (!small)
    group.append(draw("text", {x: 10, y: 37}, c.type), texts.loss);
  nodes.set(c.id, {group, title, ...texts, small});
  return group;
}

function showGraph(state, rate) {
  layOut(state);
  for (const c of state.components) {
    const node = nodes.get(c.id), r = rate.get(c.id);
    const flow = c.kind === "source" ? perSecond(r.out) + " out" : c.kind === "sink" ? perSecond(r.in) + " in" :
      perSecond(r.in) + " in, " + perSecond(r.out) + " out";
    const loss = c.dropped ? whole.format(c.dropped) + " dropped" : c.held ? whole.format(c.held) + " held" : "nothing lost";
    const broken = c.refuses_input_seconds !== null || state.health.reasons.some(t => t.component === c.id);
    const worse = c.trouble !== null || c.held_up_by.length > 0;
    say(node.flow, flow);
    say(node.loss, loss);
    setClass(node.loss, c.dropped ? "drop" : "");
    setClass(node.group, "node " + c.kind + (broken ? " broken" : worse ? " worse" : ""));
    say(node.title, `${c.id}, ${c.type}: ${flow}, ${loss}` + (c.trouble ? "; " + c.trouble : ""));
    node.group.setAttribute("aria-label", node.title.textContent);
  }
  state.queues.forEach((q, i) => {
    const edge = edges[i], p = percent(q);
    edge.fill.setAttribute("width", 44 * p / 100);
    setClass(edge.fill, "fill " + level(p));
    setClass(edge.group, "edge" + (q.producer_waits ? " waits" : ""));
    say(edge.number, p >= 1 ? whole.format(p) + "%" : "");
    say(edge.title, `${q.from} to ${q.to}: ${whole.format(q.events)} of ${whole.format(q.capacity_events)} events wait`);
  });
}

// ---- the rest ----

function list(element, lines) {
  while (element.children.length > lines.length)
    element.lastChild.remove();
  lines.forEach((line, i) => {
    const item = element.children[i] || element.appendChild(make("li"));
    say(item, line.text);
    setClass(item, line.mark || "");
  });
}

function showHead(state, rate) {
  const {reasons, degraded} = state.health, ready = state.health.status === "ready";
  say(byId("host"), state.host);
  const health = !ready ? "Not ready" : degraded.length ? "Ready, with a problem" : "Ready";
  say(byId("health"), health);
  setClass(byId("health"), !ready ? "bad" : degraded.length ? "warn" : "good");
  document.title = `${health} \u2013 ${state.host} \u2013 semstreams`;
  const incoming = state.components.filter(c => c.kind === "source").reduce((n, c) => n + rate.get(c.id).in, 0);
  say(byId("facts"), `${state.components.length} components, ${perSecond(incoming)} in, up ${span(state.health.uptime_seconds)}, ` +
    `${bytes(state.process.resident_bytes)}, version ${state.version}`);
  list(byId("trouble-list"), [...reasons.map(t => ({text: `${t.component}: ${t.reason} (since ${t.since})`})),
    ...degraded.map(t => ({text: `${t.component}: ${t.reason} (since ${t.since})`, mark: "degraded"}))]);
  byId("troubles").hidden = !reasons.length && !degraded.length;
}

// Along the waiting to who does not wait himself: he is the one to look at.
function showWaits(state) {
  const byName = new Map(state.components.map(c => [c.id, c]));
  const lines = [];
  for (const c of state.components) {
    const chain = [c.id];
    for (let at = c; at && at.held_up_by.length && chain.length < 20; at = byName.get(at.held_up_by[0]))
      chain.push(at.held_up_by[0]);
    const last = byName.get(chain[chain.length - 1]);
    if (chain.length > 1 && !state.components.some(o => o.held_up_by.includes(c.id)))
      lines.push({text: `${c.id} waits for ${chain.slice(1).join(", which waits for ")}` + (last && last.trouble ? ": " + last.trouble :
        last && last.refuses_input_seconds !== null ? ", which takes nothing" : ", which is slower than its input")});
  }
  list(byId("waits"), lines);
  byId("waits").hidden = lines.length === 0;
}

function showComponents(state, rate) {
  const count = key => ({number: true, text: c => whole.format(c[key]), value: c => c[key]});
  const speed = (head, key) => ({head, number: true, text: c => perSecond(rate.get(c.id)[key])});
  fillTable(byId("component-table"), [
    {head: "Component", text: c => c.id},
    {head: "Type", text: c => c.type},
    speed("Rate in", "in"), speed("Rate out", "out"),
    {head: "In", ...count("in")}, {head: "Out", ...count("out")}, {head: "Filtered", ...count("filtered")},
    {head: "Dropped", ...count("dropped"), mark: c => c.dropped ? "bad" : ""},
    {head: "Held", ...count("held")},
    {head: "Waits for", text: c => c.held_up_by.join(", "), mark: c => c.held_up_by.length ? "warn" : ""},
    {head: "Why dropped", text: c => Object.entries(c.dropped_by_reason).map(([k, n]) => `${k} ${whole.format(n)}`).join(", ")},
  ], state.components, c => c.id, "Events of each component");
  fillTable(byId("queue-table"), [
    {head: "Queue", text: q => `${q.from}${q.output ? "." + q.output : ""} \u2192 ${q.to}`},
    {head: "Full", text: q => whole.format(percent(q)) + "%", meter: percent},
    {head: "Events", number: true, text: q => whole.format(q.events), value: q => q.events},
    {head: "of", number: true, text: q => whole.format(q.capacity_events), value: q => q.capacity_events},
    {head: "Bytes", number: true, text: q => bytes(q.bytes), value: q => q.bytes},
    {head: "When full", text: q => q.overflow},
    {head: "Dropped", number: true, text: q => whole.format(q.dropped), value: q => q.dropped, mark: q => q.dropped ? "bad" : ""},
  ], state.queues, q => `${q.from}.${q.output}.${q.to}`, "Queues between components");
}

function showLinks(links) {
  byId("links").hidden = !links.peers.length;
  fillTable(byId("link-table"), [
    {head: "Link", text: l => l.component},
    {head: "Peer", text: l => (l.name || l.address || "unknown") + (l.name && l.verified ? " \u2713 verified" : "")},
    {head: "State", text: l => l.state || "", mark: l => l.state === "up" ? "good" : l.state === "away" ? "bad" : "warn"},
    {head: "Since", text: l => l.since || ""},
    {head: "Rate", number: true, text: l => perSecond(l.rate)},
    {head: "Lag", number: true, text: l => whole.format(l.lag), value: l => l.lag},
    {head: "Unacknowledged", number: true, text: l => whole.format(l.unacknowledged), value: l => l.unacknowledged},
    {head: "Last error", text: l => l.last_error || ""},
  ], links.peers, l => [l.component, l.role, l.name, l.name ? "" : l.address, l.stream].join("\n"), "Peers of links");
  byId("more-links").hidden = links.total <= links.peers.length;
  say(byId("more-links"), `and ${whole.format(links.total - links.peers.length)} more`);
}

function certificateItem() {
  const title = draw("title");
  const parts = Object.fromEntries(["past", "life", "now", "renewal"].map(name => [name, draw("rect", {class: name, y: 10, height: 14})]));
  parts.now.setAttribute("y", 4);
  parts.now.setAttribute("height", 26);
  parts.renewal.setAttribute("y", 6);
  parts.renewal.setAttribute("height", 22);
  const svg = draw("svg", {class: "timeline", viewBox: "0 0 1000 34", preserveAspectRatio: "none", role: "img"}, title, ...Object.values(parts));
  const item = make("li", {}, make("strong"), make("span"), svg, make("p", {class: "detail"}), make("p", {class: "bad"}));
  item.parts = {...parts, title};
  return item;
}

function showCertificates(certificates, now) {
  const element = byId("certificate-list"), time = text => text ? Date.parse(text) / 1000 : null;
  byId("certificates").hidden = !certificates.length;
  while (element.children.length > certificates.length)
    element.lastChild.remove();
  certificates.forEach((c, i) => {
    const item = element.children[i] || element.appendChild(certificateItem());
    const [name, state, svg, detail, error] = item.children, {past: gone, life, now: mark, renewal, title} = item.parts;
    const from = time(c.not_before), to = time(c.not_after), next = time(c.next_renewal);
    say(name, `${c.role}: ${c.subject || "no certificate"}`);
    const left = c.remaining_seconds, late = left !== null && left < (to - from) / 10;
    say(state, left === null ? "" : left < 0 ? ` expired ${span(left)} ago` : ` ${span(left)} left`);
    setClass(state, left === null || left < 0 ? "bad" : late ? "warn" : "good");
    svg.style.display = to === null ? "none" : "";
    const last = Math.max(to, now, next || 0), x = t => Math.max(0, Math.min(1000, 1000 * (t - from) / (last - from)));
    if (to !== null) {
      [[gone, from, Math.min(now, to)], [life, Math.min(now, to), to]].forEach(([rect, a, b]) => {
        rect.setAttribute("x", x(a));
        rect.setAttribute("width", Math.max(0, x(b) - x(a)));
      });
      setClass(life, late ? "late" : "life");
      mark.setAttribute("x", Math.min(997, x(now)));
      mark.setAttribute("width", 3);
      renewal.setAttribute("x", next ? Math.min(995, x(next)) : 0);
      renewal.setAttribute("width", next ? 5 : 0);
    }
    const words = [`${c.mode}${c.source && c.source !== c.mode ? " by " + c.source : ""}`];
    if (to !== null)
      words.push(`valid ${c.not_before} to ${c.not_after}`);
    words.push(next ? `next renewal ${c.next_renewal} (in ${span(next - now)})` : "nobody renews it but you");
    if (c.last_renewal)
      words.push(`last renewed ${c.last_renewal}`);
    if (c.failures_in_a_row)
      words.push(`${c.failures_in_a_row} failed in a row`);
    if (c.issuer)
      words.push(`issued by ${c.issuer}`);
    say(detail, words.join(", "));
    say(title, `Life of the certificate: ${words.join(", ")}`);
    say(error, c.last_error || "");
    item.dataset.generation = c.generation;
  });
}

function showKept(state) {
  byId("spools").hidden = !state.spools.length;
  byId("storage").hidden = !state.storage.length;
  const used = s => s.limit_bytes ? 100 * s.used_bytes / s.limit_bytes : 0;
  fillTable(byId("spool-table"), [
    {head: "Spool", text: s => s.component},
    {head: "Full", text: s => whole.format(used(s)) + "%", meter: used},
    {head: "Used", number: true, text: s => bytes(s.used_bytes || 0), value: s => s.used_bytes},
    {head: "Limit", number: true, text: s => bytes(s.limit_bytes || 0), value: s => s.limit_bytes},
    {head: "Oldest event", number: true, text: s => span(s.oldest_age_seconds || 0)},
    {head: "Lost", number: true, text: s => whole.format(s.lost_events_total || 0), mark: s => s.lost_events_total ? "bad" : ""},
    {head: "Corrupt", number: true, text: s => whole.format(s.corrupt_events || 0), mark: s => s.corrupt_events ? "bad" : ""},
  ], state.spools, s => s.component, "Spools");
  fillTable(byId("storage-table"), [
    {head: "Storage", text: s => s.component},
    {head: "State", text: s => s.blocked ? "blocked" : "writes", mark: s => s.blocked ? "bad" : "good"},
    {head: "Written", number: true, text: s => bytes(s.written_bytes_total || 0), value: s => s.written_bytes_total},
    {head: "Syncs", number: true, text: s => whole.format(s.syncs_total || 0)},
    {head: "Not synced for", number: true, text: s => span(s.oldest_unsynced_seconds || 0)},
    {head: "Open files", number: true, text: s => whole.format(s.open_files || 0)},
    {head: "Errors", number: true, text: s => whole.format(s.errors_total || 0), mark: s => s.errors_total ? "bad" : ""},
  ], state.storage, s => s.component, "Storage");
}

function showState(state) {
  remember(state);
  const rate = rates(state), now = Date.parse(state.time) / 1000;
  showHead(state, rate);
  showGraph(state, rate);
  showWaits(state);
  showComponents(state, rate);
  showLinks(state.links || {peers: [], total: 0});
  showCertificates(state.certificates, now);
  showKept(state);
  document.body.dataset.states = Number(document.body.dataset.states || 0) + 1;
}

let lastLine = 0;

function showLog(lines) {
  const log = byId("log"), atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
  for (const line of lines) {
    if (line.number <= lastLine)
      continue;
    lastLine = line.number;
    const {number, time, level: word, message, ...pairs} = line;
    const rest = Object.entries(pairs).map(([key, value]) => `${key}=${value}`).join(" ");
    log.append(make("li", {"data-number": number}, `${time} `,
      make("span", {class: word === "ERROR" ? "bad" : word === "WARN" ? "warn" : "good"}, word), ` ${message} ${rest}`));
  }
  while (log.children.length > 200)
    log.firstChild.remove();
  if (atEnd)
    log.scrollTop = log.scrollHeight;
}

// ---- live ----

function live(text, mark) {
  say(byId("live"), text);
  setClass(byId("live"), mark);
}

// All streams are taken: look now and then.
async function poll() {
  try {
    const state = await (await fetch("api/v1/status")).json();
    const log = await (await fetch("api/v1/log?after=" + lastLine)).json();
    showState(state);
    showLog(log.lines);
    live("Every 5 seconds", "");
  } catch (error) {
    live("The host does not answer", "bad");
  }
  setTimeout(poll, 5000);
}

function listen() {
  const source = new EventSource("api/v1/events");
  source.addEventListener("state", event => {
    showState(JSON.parse(event.data));
    live("Live", "good");
  });
  source.addEventListener("log", event => showLog(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    live("Connection lost, trying again", "bad");
    if (source.readyState === EventSource.CLOSED)
      poll();
  });
}

byId("component-table").dataset.prefix = "component-";
window.addEventListener("resize", () => past.length && showGraph(past[past.length - 1], rates(past[past.length - 1])));
listen();
