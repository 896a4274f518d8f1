// SPDX-License-Identifier: Apache-2.0
// Draws the report from the JSON that stands in the page. What is missing in it is said to be missing.
"use strict";

const report = JSON.parse(document.getElementById("report-data").textContent);
const caseNames = {
  local: "local disk", alone: "Penstock alone", neighbour: "beside a neighbour", guarantee: "with a guarantee",
};
const environmentNames = { cpu: "CPU", memory_gib: "memory, GiB", io: "daemon's I/O", listen: "target", mount_path: "volumes reached by" };
const $ = (id) => document.getElementById(id);
const missing = "not measured";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function number(value, digits = 1, unit = "") {
  if (typeof value !== "number" || !Number.isFinite(value)) return missing;
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 }) + unit;
}

function percent(fraction) {
  return typeof fraction === "number" ? number(fraction * 100, 1, " %") : missing;
}

function bytes(value) {
  if (typeof value !== "number") return missing;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit + 1 < units.length) { value /= 1000; unit++; }
  return number(value, value < 10 && unit > 0 ? 1 : 0, " " + units[unit]);
}

function micros(value) {
  if (typeof value !== "number" || value === 0) return "–";
  return value >= 1000 ? number(value / 1000, value >= 10000 ? 1 : 2, " ms") : number(value, 0, " µs");
}

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

// `text` lists the columns that hold words; a cell is a string or a node.
function table(id, heads, rows, text = []) {
  const t = $(id);
  const head = t.createTHead().insertRow();
  heads.forEach((h, i) => head.append(element("th", h, text.includes(i) ? "text" : undefined)));
  const body = t.createTBody();
  rows.forEach((cells) => {
    const row = body.insertRow();
    cells.forEach((c, i) => {
      const cell = row.insertCell();
      if (text.includes(i)) cell.className = "text";
      cell.append(c instanceof Node ? c : document.createTextNode(c));
    });
  });
  if (!rows.length) body.insertRow().insertCell().textContent = missing;
  return body;
}

function definitions(id, pairs) {
  pairs.forEach(([term, value]) => $(id).append(element("dt", term), element("dd", value)));
}

function when(t) {
  if (typeof t !== "number") return t || "";
  return new Date(t * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
}

// The first sentence is the headline, its shares in the colours of their cases; what follows tells the money.
function headline() {
  $("eyebrow").textContent = `Penstock · pipeline ${report.pipeline} · run ${report.run_id} · ${when(report.started)}`;
  const [, first, rest] = report.summary.sentence.match(/^(.*?\.)(?:\s+(?=[A-Z])(.*))?$/s) || [null, report.summary.sentence];
  const colours = ["alone", "neighbour", "guarantee"];
  first.split(/(\d[\d.]* %)/).forEach((part, i) =>
    $("headline").append(i % 2 ? element("span", part, colours[(i - 1) / 2]) : document.createTextNode(part)));
  $("money").textContent = rest || "";
  $("headline-note").textContent = report.summary.note || "";
  report.proof.forEach((p) => {
    const tile = element("div", undefined, "tile " + p.case);
    tile.append(element("span", caseNames[p.case] || p.case), element("b", percent(p.accelerator_idle_fraction)),
      element("span", "of accelerator time waiting for data"),
      element("span", `${number(p.samples_per_s, 0)} samples/s · p99 ${micros(p.p99_us)}`));
    $("tiles").append(tile);
  });
  if (!report.proof.length) $("tiles").remove();
}

function chartDefaults() {
  Chart.defaults.animation = false;
  Chart.defaults.color = colour("soft");
  Chart.defaults.borderColor = colour("line");
  Chart.defaults.maintainAspectRatio = false;
  Chart.defaults.elements.point.radius = 0;
  Chart.defaults.elements.line.borderWidth = 2;
  Chart.defaults.font.family = "system-ui, 'DejaVu Sans', sans-serif";
  Chart.defaults.plugins.legend.labels.boxHeight = 2;
}

// What was not measured is a gap in the line, not a zero.
function measured(value, scale = 1) {
  return typeof value === "number" ? value * scale : null;
}

function line(label, points, name, axis, extra) {
  return { label, data: points, borderColor: colour(name), backgroundColor: colour(name) + "22", yAxisID: axis, ...extra };
}

function timeAxis(max) {
  return { type: "linear", min: 0, max, title: { display: true, text: "seconds" }, ticks: { maxTicksLimit: 12 } };
}

// Paints and names stretches of time (cases, steps) behind the lines, and marks moments (the kill).
const caseBands = {
  id: "caseBands",
  beforeDatasetsDraw(chart) {
    const bands = chart.options.plugins.caseBands.bands || [];
    const { ctx, chartArea: area, scales: { x } } = chart;
    ctx.save();
    bands.forEach((band, i) => {
      const left = x.getPixelForValue(band.from), right = x.getPixelForValue(band.to);
      if (i % 2) { ctx.fillStyle = colour("line") + "66"; ctx.fillRect(left, area.top, right - left, area.bottom - area.top); }
      ctx.fillStyle = colour("soft");
      ctx.font = "12px system-ui, 'DejaVu Sans', sans-serif";
      if (ctx.measureText(band.name).width + 6 < right - left) ctx.fillText(band.name, left + 4, area.top + 14);
    });
    (chart.options.plugins.caseBands.marks || []).forEach((mark) => {
      const at = x.getPixelForValue(mark.t);
      ctx.strokeStyle = ctx.fillStyle = colour("bad");
      ctx.setLineDash([4, 3]);
      ctx.beginPath(); ctx.moveTo(at, area.top); ctx.lineTo(at, area.bottom); ctx.stroke();
      ctx.fillText(mark.name, at + 4, area.top + 14);
    });
    ctx.restore();
  },
};

function proofSection() {
  const details = report.proof_details || {};
  const timeline = details.timeline || [];
  $("proof-note").textContent = details.note || "";
  table("proof-table", ["case", "accelerator idle", "samples/s", "read MB/s", "read p50", "read p99", "neighbour MB/s", "node CPU", "steal"],
    report.proof.map((p) => [caseNames[p.case] || p.case, percent(p.accelerator_idle_fraction), number(p.samples_per_s, 0),
      number(p.mb_s, 0), micros(p.p50_us), micros(p.p99_us), p.neighbour_mb_s ? number(p.neighbour_mb_s, 0) : "–",
      percent(p.cpu_busy), percent(p.steal)]));
  $("verdict").textContent = details.verdict || "";
  if (!timeline.length) return;
  const bands = [];
  timeline.forEach((s) => {
    const last = bands[bands.length - 1];
    if (last && last.case === s.case) { last.to = s.t; return; }
    if (last) last.to = s.t;
    bands.push({ case: s.case, name: caseNames[s.case] || s.case, from: s.t, to: s.t });
  });
  const points = (key, scale = 1) => timeline.map((s) => ({ x: s.t, y: measured(s[key], scale) }));
  new Chart($("proof-chart"), {
    type: "line",
    data: { datasets: [
      line("training reads, MB/s", points("victim_mb_s"), "water", "y"),
      line("neighbour's writes, MB/s", points("neighbour_mb_s"), "warm", "y"),
      line("accelerator idle, %", points("idle_fraction", 100), "idle", "idle", { fill: true, borderWidth: 1 }),
    ] },
    options: {
      plugins: { caseBands: { bands }, legend: { position: "bottom" } },
      scales: {
        x: timeAxis(Math.ceil(timeline[timeline.length - 1].t)), y: { beginAtZero: true, grace: "12%", title: { display: true, text: "MB/s" } },
        idle: { position: "right", min: 0, max: 100, grid: { display: false }, title: { display: true, text: "% idle" } },
      },
    },
    plugins: [caseBands],
  });
}

function volumeName(v) {
  const cell = element("span", v.name);
  if (v.version) cell.append(element("span", ` ${v.version}`, "soft"));
  else if (v.profile && v.profile !== v.name) cell.append(element("span", ` ${v.profile}`, "soft"));
  return cell;
}

function stepsSection() {
  const rows = [], opens = [];
  report.steps.forEach((step) => {
    const volumes = step.volumes.length ? step.volumes : [null];
    volumes.forEach((v, i) => {
      const status = element("span", undefined);
      status.append(element("span", step.status, "status " + step.status));
      if (step.attempts > 1) status.append(element("span", ` ${step.attempts} attempts`, "soft"));
      const seconds = typeof step.seconds === "number" ? step.seconds.toFixed(1) + " s" : missing;
      opens.push(i + 1 < volumes.length);
      rows.push([i ? "" : step.name, i ? "" : status, i ? "" : seconds,
        v ? volumeName(v) : "–", v ? bytes(v.bytes_read) : "–", v ? bytes(v.bytes_written) : "–",
        v ? number(v.iops, 0) : "–", v ? micros(v.p50_us) : "–", v ? micros(v.p95_us) : "–", v ? micros(v.p99_us) : "–"]);
    });
  });
  const heads = ["step", "status", "duration", "volume", "read", "written", "IOPS", "p50", "p95", "p99"];
  const body = table("steps-table", heads, rows, [0, 1, 3]);
  report.steps.filter((step) => step.error).forEach((step) =>
    $("step-errors").append(element("p", `${step.name} failed: ${step.error}`, "failed")));
  opens.forEach((open, i) => { if (open) body.rows[i].className = "opens"; });
}

function versionsSection() {
  const versions = report.versions || [];
  if (!versions.length) { $("versions-section").remove(); return; }
  (report.lineage || []).forEach((sentence) => $("lineage").append(element("p", sentence)));
  const rows = versions.flatMap((v) => (v.clones.length ? v.clones : [null]).map((c, i) => {
    const name = element("span", i ? "" : v.name);
    name.title = v.uuid;
    return [name, i ? "" : v.status + (v.step ? ` by ${v.step}` : ""), i ? "" : v.read_by.join(", ") || "–", i ? "" : v.created || missing,
      i ? "" : bytes(v.mapped_bytes), i ? "" : bytes(v.own_bytes), c ? c.name : "–", c ? bytes(c.own_bytes) : "–"];
  }));
  table("versions-table", ["version", "status", "read by", "created", "mapped", "own", "clone", "clone's own"], rows, [0, 1, 2, 3, 6]);
}

function trainingSection() {
  const t = report.training || {};
  const writes = t.checkpoint_write_s || [];
  definitions("training", [
    ["test accuracy", number(t.test_accuracy, 4)],
    ["samples/s", number(t.samples_per_s, 0)],
    ["dataset read rate", number(t.dataset_read_mb_s, 1, " MB/s")],
    ["accelerator idle (waiting for data)", percent(t.accelerator_idle_fraction)],
    ["restart recovery: kill to first new step", number(t.restart_recovery_s, 2, " s")],
    ["checkpoints written", String(writes.length)],
    ["peak checkpoint bandwidth", number(t.checkpoint_peak_mb_s, 1, " MB/s")],
    ["link speed", t.link || missing],
  ]);
  if (!writes.length) { $("checkpoint-chart").parentElement.remove(); return; }
  new Chart($("checkpoint-chart"), {
    type: "bar",
    data: { labels: writes.map((_, i) => i + 1), datasets: [{ label: "checkpoint write, ms", data: writes.map((s) => s * 1000), backgroundColor: colour("water") }] },
    options: { plugins: { legend: { position: "bottom" } }, scales: { y: { beginAtZero: true }, x: { title: { display: true, text: "checkpoint" } } } },
  });
}

function rolloutSection() {
  const rollout = report.rollout || {};
  const batch = rollout.batch || {}, realtime = rollout.realtime || {};
  definitions("rollout", [
    ["batch: predictions", number(batch.predictions, 0)],
    ["batch: predictions/s", number(batch.predictions_per_s, 0)],
    ["batch: accuracy", number(batch.accuracy, 4)],
    ["real time: requests", number(realtime.requests, 0)],
    ["real time: requests/s", number(realtime.requests_per_s, 0)],
    ["real time: p50", number(realtime.p50_ms, 1, " ms")],
    ["real time: p99", number(realtime.p99_ms, 1, " ms")],
    ["real time: errors", number(realtime.errors, 0)],
  ]);
  confusion();
}

// Rows are true classes, columns what the model said; mistakes are tinted by how often they happen.
function confusion() {
  const { confusion: counts, classes, samples } = report.evaluation || {};
  if (!counts || !classes) { $("confusion-note").textContent = missing; return; }
  $("confusion-note").textContent = `${number(samples, 0)} held-out images: true class by row, prediction by column.`;
  const worst = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, k) => k !== i)));
  const head = $("confusion").createTHead().insertRow();
  head.append(element("th", ""));
  classes.forEach((c) => { const th = element("th", c.slice(0, 2)); th.title = c; head.append(th); });
  const body = $("confusion").createTBody();
  counts.forEach((row, i) => {
    const r = body.insertRow();
    r.append(element("th", classes[i]));
    row.forEach((n, k) => {
      const cell = r.insertCell();
      cell.textContent = n || "·";
      const share = i === k ? n / Math.max(1, row.reduce((a, b) => a + b, 0)) : n / worst;
      const alpha = Math.round(share * (i === k ? 90 : 150)).toString(16).padStart(2, "0");
      cell.style.background = colour(i === k ? "calm" : "warm") + alpha;
    });
  });
}

// Steps as stretches of the run's clock, and the kill as a moment.
function runBands(start) {
  const bands = [], marks = [];
  (report.steps || []).forEach((step) => {
    const times = step.times || [];
    if (!times.length) return;
    bands.push({ name: step.name, from: times[0].started - start, to: times[times.length - 1].ended - start });
    times.filter((a) => a.signal).forEach((a) => marks.push({ t: a.ended - start, name: `signal ${a.signal}` }));
  });
  return { bands, marks };
}

// One of the lanes that share the run's clock; all have the same margins, so that moments stand above each other.
function lane(id, caseBandsOptions, last, unit, datasets, y, showTime) {
  const width = (w) => ({ afterFit: (axis) => { axis.width = w; } });
  const x = timeAxis(last);
  if (!showTime) { x.title.display = false; x.ticks.display = false; }
  if (y.max === 100) caseBandsOptions = { bands: caseBandsOptions.bands.map((b) => ({ ...b, name: "" })),
    marks: caseBandsOptions.marks.map((m) => ({ ...m, name: "" })) }; // a full lane has no room for names
  new Chart($(id), {
    type: "line",
    data: { datasets },
    options: {
      layout: { padding: { right: 12 } },
      plugins: { caseBands: caseBandsOptions, legend: { position: "top", align: "end" } },
      scales: { x, y: { beginAtZero: true, ...y, title: { display: true, text: unit }, ticks: { maxTicksLimit: 5 }, ...width(58) } },
    },
    plugins: [caseBands],
  });
}

function nodeSection() {
  const timeline = report.timeline || [];
  if (!timeline.length) {
    $("node-note").textContent = missing;
    ["cpu-chart", "rate-chart", "network-chart"].forEach((id) => $(id).parentElement.remove());
    return;
  }
  const start = timeline[0].t, last = Math.ceil(timeline[timeline.length - 1].t - start);
  const points = (value) => timeline.map((s) => ({ x: s.t - start, y: value(s) }));
  const volumes = (s, key) => s.volumes ? Object.values(s.volumes).reduce((sum, v) => sum + (v[key] || 0), 0) : null;
  const bands = runBands(start);
  $("step-key").textContent = bands.bands.length ? "Steps in order: " + bands.bands.map((b) => b.name).join(", ") + "." : "";
  lane("cpu-chart", bands, last, "% of all cores", [
    line("CPU busy", points((s) => measured(s.cpu_busy, 100)), "idle", "y", { fill: true, borderWidth: 1 }),
    line("steal", points((s) => measured(s.steal, 100)), "bad", "y"),
  ], { min: 0, max: 100 });
  lane("rate-chart", bands, last, "MB/s", [
    line("volumes read", points((s) => volumes(s, "read_mb_s")), "water", "y"),
    line("volumes written", points((s) => volumes(s, "write_mb_s")), "warm", "y"),
  ], { grace: "15%" });
  lane("network-chart", bands, last, "per sample", [
    line("TCP retransmits", points((s) => measured(s.tcp_retransmits)), "calm", "y"),
    line("NIC drops", points((s) => measured(s.nic_drops)), "bad", "y"),
  ], { suggestedMax: 4 }, true);
  const sum = (key) => timeline.some((s) => typeof s[key] === "number")
    ? number(timeline.reduce((total, s) => total + (s[key] || 0), 0), 0) : missing;
  $("node-note").textContent = `Over the whole run: TCP retransmits ${sum("tcp_retransmits")}, NIC drops ${sum("nic_drops")}.`;
}

function accountingSection() {
  const rows = Object.entries(report.accounting || {}).map(([name, a]) => [name, bytes(a.host_bytes), bytes(a.target_bytes),
    bytes(a.socket_bytes), bytes(a.overhead_bytes), percent(a.difference)]);
  table("accounting-table", ["volume", "host library", "target", "sockets (TCP_INFO)", "protocol overhead", "difference left"], rows);
}

function labelsSection() {
  definitions("labels", (report.labels || []).map((l) => {
    const [, tag, text] = l.match(/^([^:.]{2,30}): (.*)$/s) || [null, "note", l];
    return [tag, text];
  }));
  const e = report.environment || {};
  definitions("environment", Object.entries(e).map(([k, v]) =>
    [environmentNames[k] || k, typeof v === "number" ? number(v, 1) : v === null || v === "" ? missing : String(v)]));
  $("command").textContent = report.command || missing;
}

chartDefaults();
headline();
proofSection();
stepsSection();
versionsSection();
trainingSection();
rolloutSection();
nodeSection();
accountingSection();
labelsSection();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
