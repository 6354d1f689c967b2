// Live charts of the last minutes, one sample a second. Drawn only while they can be seen.

import uPlot from "/vendor/uplot.mjs";
import { bytes, el, ms, number } from "./dom.js";

const KEEP = 300;

const CHARTS = [
  { title: "Traffic per second", unit: number, series: [["requests", "requests", "--blue"], ["transactions", "transactions", "--teal"], ["errors", "errors", "--bad"]] },
  { title: "Latency", unit: ms, series: [["p50", "p50", "--teal"], ["p95", "p95", "--blue"], ["p99", "p99", "--violet"]] },
  { title: "Event loop lag", unit: ms, series: [["lag_ms", "lag", "--orange"]] },
  { title: "Sockets and channels", unit: number, series: [["sockets", "sockets", "--blue"], ["channels", "channels", "--violet"]] },
  { title: "Waiting messages", unit: number, series: [["mailbox", "all named", "--blue"], ["mailbox_max", "longest", "--orange"]] },
  { title: "Database pool", unit: number, series: [["pool_used", "in use", "--orange"], ["pool_size", "open", "--teal"]] },
  { title: "Group commit", unit: number, series: [["batch_rows", "rows a batch", "--violet"], ["commit_ms", "ms a commit", "--teal"]] },
  { title: "CPU", unit: (value) => (value === null || value === undefined ? "–" : `${number(value)} %`), series: [["cpu", "of one core", "--blue"]] },
  { title: "Memory", unit: bytes, series: [["memory", "resident", "--violet"]] },
];

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Charts {
  constructor(place) {
    this.place = place;
    this.samples = [];
    this.plots = null;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.plots = null;
      this.draw();
    });
    new ResizeObserver(() => this.resize()).observe(place);
  }

  start(samples) {
    this.samples = samples.slice(-KEEP);
    this.draw();
  }

  add(sample) {
    this.samples.push(sample);
    if (this.samples.length > KEEP) this.samples.shift();
    this.draw();
  }

  draw() {
    if (this.place.clientWidth === 0 || document.hidden) return;
    if (!this.plots) this.make();
    for (const { chart, plot, latest } of this.plots) {
      plot.setData([this.samples.map((one) => one.at), ...chart.series.map(([key]) => this.samples.map((one) => one[key] ?? null))]);
      const last = this.samples.at(-1) ?? {};
      latest.forEach((element, index) => (element.textContent = chart.unit(last[chart.series[index][0]])));
    }
  }

  make() {
    const grid = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--muted"), grid, ticks: grid, font: "11px system-ui, sans-serif" };
    this.plots = [];
    this.place.replaceChildren();
    for (const chart of CHARTS) {
      const latest = chart.series.map(() => el("b"));
      const body = el("div");
      const card = el(
        "figure",
        { class: "card chart", style: "margin:0" },
        el("div", { class: "top" }, el("h3", {}, chart.title), el("div", { class: "latest" }, chart.series.map(([, label, tone], index) => el("span", {}, el("i", { style: `background:${color(tone)}` }), `${label} `, latest[index])))),
        body,
      );
      this.place.append(card);
      const plot = new uPlot(
        {
          width: Math.max(120, card.clientWidth - 26),
          height: 150,
          cursor: { y: false, points: { size: 6 } },
          legend: { show: false },
          scales: { x: { time: true }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.15 : 1] } },
          axes: [{ ...axis, size: 28 }, { ...axis, size: 62, values: (_plot, ticks) => ticks.map((tick) => chart.unit(tick)) }],
          series: [{}, ...chart.series.map(([, label, tone], index) => ({ label, stroke: color(tone), width: 1.75, fill: index === 0 ? `${color(tone)}22` : undefined, spanGaps: true, points: { show: false } }))],
        },
        [[], ...chart.series.map(() => [])],
        body,
      );
      this.plots.push({ chart, plot, latest, card });
    }
  }

  resize() {
    if (this.place.clientWidth === 0) return;
    if (!this.plots) this.draw();
    for (const { plot, card } of this.plots ?? []) {
      const width = Math.max(120, card.clientWidth - 26);
      if (width !== plot.width) plot.setSize({ width, height: 150 });
    }
  }
}
