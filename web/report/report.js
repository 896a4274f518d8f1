// SPDX-License-Identifier: Apache-2.0
// Draws the report from the JSON that stands in the page. What is missing in it is said to be missing.
"use strict";

const report = JSON.parse(document.getElementById("report-data").textContent);
const caseNames = {
  local: "local disk", alone: "Penstock alone", neighbour: "beside a neighbour", guarantee: "with a guarantee",
};
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
  return value >= 10000 ? number(value / 1000, 1, " ms") : number(value, 0, " µs");
}

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function table(id, heads, rows) {
  const t = $(id);
  const head = t.createTHead().insertRow();
  heads.forEach((h) => head.append(element("th", h)));
  const body = t.createTBody();
  rows.forEach((cells) => {
    const row = body.insertRow();
    cells.forEach((c) => {
      const cell = row.insertCell();
      cell.append(c instanceof Node ? c : document.createTextNode(c));
    });
  });
  if (!rows.length) body.insertRow().insertCell().textContent = missing;
}

function definitions(id, pairs) {
  pairs.forEach(([term, value]) => $(id).append(element("dt", term), element("dd", value)));
}

function headline() {
  $("eyebrow").textContent = `Penstock · pipeline ${report.pipeline} · run ${report.run_id} · ${report.started || ""}`;
  $("headline").textContent = report.summary.sentence;
  $("headline-note").textContent = report.summary.note || "";
  report.proof.forEach((p) => {
    const tile = element("div", undefined, "tile " + p.case);
    tile.append(element("span", caseNames[p.case] || p.case), element("b", percent(p.accelerator_idle_fraction)),
      element("span", "of accelerator time waiting for data"));
    $("tiles").append(tile);
  });
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

function line(label, points, name, axis, extra) {
  return { label, data: points, borderColor: colour(name), backgroundColor: colour(name) + "22", yAxisID: axis, ...extra };
}

function timeAxis() {
  return { type: "linear", title: { display: true, text: "seconds" }, ticks: { maxTicksLimit: 12 } };
}

// Paints and names the stretch of each case behind the lines.
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
      const name = caseNames[band.case] || band.case;
      if (ctx.measureText(name).width < right - left) ctx.fillText(name, left + 4, area.top + 14);
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
    if (last && last.case === s.case) last.to = s.t;
    else bands.push({ case: s.case, from: s.t, to: s.t });
  });
  const points = (key, scale = 1) => timeline.map((s) => ({ x: s.t, y: (s[key] || 0) * scale }));
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
        x: timeAxis(), y: { beginAtZero: true, grace: "12%", title: { display: true, text: "MB/s" } },
        idle: { position: "right", min: 0, max: 100, grid: { display: false }, title: { display: true, text: "% idle" } },
      },
    },
    plugins: [caseBands],
  });
}

function stepsSection() {
  const rows = [];
  report.steps.forEach((step) => {
    const volumes = step.volumes.length ? step.volumes : [null];
    volumes.forEach((v, i) => {
      const status = element("span", step.status, "status " + step.status);
      rows.push([i ? "" : step.name, i ? "" : status, i ? "" : number(step.seconds, 1, " s"),
        v ? `${v.name} (${v.profile})` : "–", v ? bytes(v.bytes_read) : "–", v ? bytes(v.bytes_written) : "–",
        v ? number(v.iops, 0) : "–", v ? micros(v.p50_us) : "–", v ? micros(v.p95_us) : "–", v ? micros(v.p99_us) : "–"]);
    });
  });
  table("steps-table", ["step", "status", "duration", "volume", "read", "written", "IOPS", "p50", "p95", "p99"], rows);
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
  const { batch = {}, realtime = {} } = report.rollout || {};
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
}

function nodeSection() {
  const timeline = report.timeline || [];
  if (!timeline.length) { $("node-note").textContent = missing; return; }
  const start = timeline[0].t;
  const points = (value) => timeline.map((s) => ({ x: s.t - start, y: value(s) || 0 }));
  const volumes = (s, key) => Object.values(s.volumes || {}).reduce((sum, v) => sum + (v[key] || 0), 0);
  new Chart($("node-chart"), {
    type: "line",
    data: { datasets: [
      line("CPU busy, %", points((s) => s.cpu_busy * 100), "idle", "y", { fill: true, borderWidth: 1 }),
      line("steal, %", points((s) => s.steal * 100), "bad", "y"),
      line("volumes read, MB/s", points((s) => volumes(s, "read_mb_s")), "water", "rate"),
      line("volumes written, MB/s", points((s) => volumes(s, "write_mb_s")), "warm", "rate"),
      line("TCP retransmits + NIC drops, per sample", points((s) => (s.tcp_retransmits || 0) + (s.nic_drops || 0)), "calm", "rate"),
    ] },
    options: {
      plugins: { legend: { position: "bottom" } },
      scales: { x: timeAxis(), y: { min: 0, max: 100, title: { display: true, text: "%" } },
        rate: { position: "right", beginAtZero: true, grid: { display: false }, title: { display: true, text: "MB/s, count" } } },
    },
  });
  const sum = (key) => timeline.reduce((total, s) => total + (s[key] || 0), 0);
  $("node-note").textContent = `TCP retransmits: ${sum("tcp_retransmits")}; NIC drops: ${sum("nic_drops")} over the whole run.`;
}

function accountingSection() {
  const rows = Object.entries(report.accounting || {}).map(([name, a]) => [name, bytes(a.host_bytes), bytes(a.target_bytes),
    bytes(a.socket_bytes), bytes(a.overhead_bytes), percent(a.difference)]);
  table("accounting-table", ["volume", "host library", "target", "sockets (TCP_INFO)", "of it protocol", "largest difference"], rows);
}

function labelsSection() {
  (report.labels || []).forEach((l) => $("labels").append(element("li", l)));
  const e = report.environment || {};
  definitions("environment", Object.entries(e).map(([k, v]) => [k.replaceAll("_", " "), String(v)]));
  $("command").textContent = report.command || missing;
}

chartDefaults();
headline();
proofSection();
stepsSection();
trainingSection();
rolloutSection();
nodeSection();
accountingSection();
labelsSection();
