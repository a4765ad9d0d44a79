// Draws the plots from the data in the page. What came with a result is only ever set as text.
"use strict";
(() => {
const runs = JSON.parse(document.getElementById("data").textContent);
const COLOURS = 8;
const KINDS = ["all", "get", "set"];
const LINES = [["p50_ns", "p50"], ["p99_ns", "p99"], ["max_ns", "max"]];
const LEVELS = [["p50_ns", "p50"], ["p99_ns", "p99"], ["p999_ns", "p99.9"]];
const state = { kind: "all", lines: [true, true, runs.length < 3], levels: [true, true, false], over: null };
runs.forEach((run, i) => {
  run.colour = "c" + i % COLOURS;
  run.dashes = "d" + Math.floor(i / COLOURS) % 3;
  run.on = true;
});

// Elements.
const byId = id => document.getElementById(id);
function html(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}
function svg(name, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}
function fill(element, attributes, children) {
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  element.append(...children);
  return element;
}
function key(run, dashes) {
  return svg("svg", { class: "key " + run.colour, viewBox: "0 0 22 10", "aria-hidden": "true" },
    svg("path", { class: "line " + (dashes || run.dashes), d: "M1 5H21" }));
}

// Numbers.
const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
function latency(ns) {
  if (ns < 1000) return Math.round(ns) + " ns";
  const [size, unit] = UNITS.find(([size]) => ns >= size * 0.9995);
  const value = ns / size;
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + " " + unit;
}
function latencyTick(ns) {
  const [size, unit] = UNITS.find(([size]) => ns >= size * 0.9999) || UNITS[3];
  return +(ns / size).toPrecision(4) + " " + unit;
}
function rate(perSecond) {
  return Math.round(perSecond).toLocaleString("en-US") + "/s";
}
function rateTick(perSecond) {
  if (perSecond >= 1e6) return +(perSecond / 1e6).toPrecision(4) + " M";
  return perSecond >= 1e3 ? +(perSecond / 1e3).toPrecision(4) + " k" : "" + +perSecond.toPrecision(4);
}
// The share of which 10^-x is the rest.
function percentile(x) {
  return (100 - 100 * 10 ** -x).toFixed(Math.max(0, Math.ceil(x) - 1)) + " %";
}

// Scales: from values to pixels, with ticks.
function linear(low, high, from, to) {
  const span = high - low || 1;
  return {
    at: value => from + (value - low) / span * (to - from),
    value: px => low + (px - from) / (to - from) * span,
    ticks(count) {
      const raw = span / Math.max(1, count), base = 10 ** Math.floor(Math.log10(raw));
      const step = base * [1, 2, 5, 10].find(m => base * m >= raw * 0.999);
      const ticks = [];
      for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i++) ticks.push(i * step);
      return ticks;
    },
  };
}
const STEPS_125 = [1, 2, 5];
function logarithmic(lowest, highest, from, to) {
  const snap = (value, up) => {
    const base = 10 ** Math.floor(Math.log10(value) + 1e-9);
    const marks = [1, 2, 5, 10].map(m => m * base);
    return up ? marks.find(m => m >= value * 0.999999) : marks.reverse().find(m => m <= value * 1.000001);
  };
  const low = snap(Math.max(1, lowest), false);
  let high = snap(Math.max(1, highest), true);
  if (high < low * 2) high = low * 2;
  const line = linear(Math.log10(low), Math.log10(high), from, to);
  return {
    at: value => line.at(Math.log10(Math.max(low, value))),
    // The densest of some sets of marks whose labels have room.
    ticks(room) {
      const pixels = Math.abs(to - from), decades = Math.log10(high / low);
      if (decades < 0.75) {
        return linear(low, high, from, to).ticks(Math.min(6, pixels / room / 1.5));
      }
      const marks = pixels / decades > room * 3.4 ? STEPS_125 : [1];
      const every = marks.length > 1 ? 1 : Math.ceil(room * decades / pixels);
      const ticks = [];
      for (let e = Math.floor(Math.log10(low) + 1e-9); 10 ** e <= high * 1.0001; e += every) {
        ticks.push(...marks.map(m => m * 10 ** e).filter(v => v >= low * 0.9999 && v <= high * 1.0001));
      }
      return ticks;
    },
    minors() {
      const lines = [];
      for (let e = Math.floor(Math.log10(low) + 1e-9); 10 ** e <= high; e++) {
        for (let m = 2; m < 10; m++) if (m * 10 ** e > low && m * 10 ** e < high) lines.push(m * 10 ** e);
      }
      return Math.log10(high / low) > 4.5 ? [] : lines;
    },
  };
}

// A frame of axes; `plot` fills it. Spec: section, xName, yName, range of latencies, x (a function
// from pixels to a scale), xTicks (of that scale, pixels wide), draw(g, x, y), pick(px, py, x, y).
const charts = [];
function chart(id, spec) {
  const section = byId(id), host = section.querySelector(".plot");
  section.hidden = false;
  const readout = html("div", { class: "readout", role: "status" });
  readout.hidden = true;
  let view = null;

  function draw() {
    const width = Math.max(280, host.clientWidth || 640);
    const height = Math.round(Math.min(440, Math.max(270, width * 0.46)));
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.name, tabindex: "0" });
    host.replaceChildren(root, readout);
    readout.hidden = true;
    const content = spec.content();
    if (!content) {
      root.append(svg("text", { class: "empty", x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to show"));
      view = null;
      return;
    }
    const box = { left: 58, right: width - 18, top: 26, bottom: height - 44 };
    const y = logarithmic(content.low, content.high, box.bottom, box.top);
    const x = content.x(box.left, box.right);
    root.append(svg("text", { class: "title", x: 0, y: 12 }, spec.yName),
      svg("text", { class: "title", x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, spec.xName));
    for (const value of y.minors()) rule(root, "grid minor", box.left, y.at(value), box.right, y.at(value));
    for (const value of y.ticks(22)) {
      const at = y.at(value);
      rule(root, "grid", box.left, at, box.right, at);
      root.append(svg("text", { x: box.left - 8, y: at + 4, "text-anchor": "end" }, latencyTick(value)));
    }
    const labels = [];
    for (const [at, text, isMinor] of content.xTicks(x, box.right - box.left)) {
      rule(root, isMinor ? "grid minor" : "grid", at, box.top, at, box.bottom);
      const half = text.length * 3.5 + 5;
      if (!text || labels.some(([from, to]) => at - half < to && at + half > from)) continue;
      labels.push([at - half, at + half]);
      // A label at the edge stays within the picture.
      const edge = Math.min(at, width - half + 5);
      root.append(svg("text", { x: edge, y: box.bottom + 17, "text-anchor": "middle" }, text));
    }
    rule(root, "axis", box.left, box.bottom, box.right, box.bottom);
    content.draw(root, x, y, box);
    const over = svg("g", {});
    root.append(over);
    view = { root, over, content, x, y, box, width };
    root.addEventListener("pointermove", event => point(event));
    root.addEventListener("pointerdown", event => point(event));
    root.addEventListener("pointerleave", hide);
    root.addEventListener("blur", hide);
    root.addEventListener("keydown", event => {
      const step = { ArrowLeft: -6, ArrowRight: 6 }[event.key];
      if (!step) return;
      event.preventDefault();
      view.cursor = Math.min(box.right, Math.max(box.left, (view.cursor || (box.left + box.right) / 2) + step));
      show(view.cursor, (box.top + box.bottom) / 2);
    });
  }
  function point(event) {
    const bounds = view.root.getBoundingClientRect(), scale = view.width / bounds.width;
    const px = (event.clientX - bounds.left) * scale, py = (event.clientY - bounds.top) * scale;
    if (px < view.box.left - 12 || px > view.box.right + 12) return hide();
    show(Math.min(view.box.right, Math.max(view.box.left, px)), py);
  }
  function hide() {
    readout.hidden = true;
    if (view) view.over.replaceChildren();
  }
  function show(px, py) {
    const { content, x, y, box, over, width } = view;
    const picked = content.pick(px, py, x, y);
    if (!picked) return hide();
    over.replaceChildren();
    rule(over, "cross", picked.at, box.top, picked.at, box.bottom);
    for (const [run, cx, cy] of picked.dots) over.append(svg("circle", { class: "dot " + run.colour, cx, cy, r: 4 }));
    readout.replaceChildren(html("b", {}, picked.title), ...picked.rows.map(([run, name, value, dashes]) =>
      html("div", {}, run ? key(run, dashes) : "", html("span", { class: "name" }, name), html("span", { class: "value" }, value))));
    readout.style.left = "0";
    readout.hidden = false;
    // Beside the line, on the side with more room, and never beyond the picture.
    const pixel = picked.at / width * host.clientWidth, size = readout.offsetWidth;
    const left = picked.at > width / 2 ? pixel - size - 12 : pixel + 12;
    readout.style.left = Math.max(0, Math.min(host.clientWidth - size, left)) + "px";
  }
  charts.push({ draw, host });
}
function rule(parent, style, x1, y1, x2, y2) {
  parent.append(svg("line", { class: style, x1, y1, x2, y2 }));
}
function path(points) {
  return "M" + points.map(([x, y]) => x.toFixed(1) + " " + y.toFixed(1)).join("L");
}
function curve(parent, run, style, points) {
  if (points.length === 1) return dot(parent, run, points[0], false);
  const isFaded = state.over !== null && state.over !== run;
  parent.append(svg("path", { class: `line ${run.colour} ${style}${isFaded ? " faded" : ""}`, d: path(points) }));
}
function dot(parent, run, [cx, cy], isHollow) {
  const isFaded = state.over !== null && state.over !== run;
  parent.append(svg("circle", { class: `dot ${run.colour}${isHollow ? " hollow" : ""}${isFaded ? " faded" : ""}`, cx, cy, r: 4 }));
}
const visible = () => runs.filter(run => run.on);
const nearest = (list, distance) => list.reduce((best, item) => distance(item) < distance(best) ? item : best);
function extremes(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, 0]);
}

// Latency by percentile.
function spectrumContent() {
  const shown = visible().map(run => ({ run, spectrum: run.steps[run.shown][state.kind] })).filter(s => s.spectrum.count > 0);
  if (!shown.length) return null;
  const right = Math.max(2, ...shown.map(s => Math.log10(s.spectrum.count)));
  for (const s of shown) {
    const end = Math.log10(s.spectrum.count);
    // The last point, everything, stands where one of all is the rest.
    s.points = s.spectrum.points.map(([share, ns]) => [share < 1 ? Math.min(end, -Math.log10(1 - share)) : end, ns]);
  }
  const [low, high] = extremes(shown.flatMap(s => s.points.map(p => p[1])));
  return {
    low, high,
    x: (from, to) => linear(0, right, from, to),
    xTicks(x, pixels) {
      const ticks = [];
      const every = Math.max(1, Math.ceil(right * 54 / pixels));
      for (let nines = 0; nines <= right + 1e-9; nines++) {
        const text = (100 - 100 * 10 ** -nines).toFixed(Math.max(0, nines - 2)) + " %";
        ticks.push([x.at(nines), nines % every ? "" : text]);
      }
      if (every === 1) ticks.push([x.at(Math.log10(2)), "50 %", true], [x.at(Math.log10(20)), "95 %", true]);
      return ticks;
    },
    draw(root, x, y) {
      for (const { run, points } of shown) curve(root, run, run.dashes, points.map(p => [x.at(p[0]), y.at(p[1])]));
    },
    pick(px, py, x, y) {
      const nines = x.value(px);
      const rows = [], dots = [];
      for (const { run, points } of shown) {
        const found = points.find(p => p[0] >= nines - 1e-9);
        rows.push([run, run.label, found ? latency(found[1]) : "–", run.dashes]);
        if (found) dots.push([run, px, y.at(interpolated(points, nines))]);
      }
      return { at: px, title: percentile(nines), rows, dots };
    },
  };
}
// Where the drawn line is, between its points.
function interpolated(points, x) {
  const i = points.findIndex(p => p[0] >= x);
  if (i <= 0) return points[Math.max(0, i)][1];
  const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
  return y0 * (y1 / y0) ** (x1 > x0 ? (x - x0) / (x1 - x0) : 1);
}

// Latency over time. Longer runs have more intervals than pixels: then the worst of a few stand for them.
const POINTS_MAX = 400;
let joined = 1;
function thinned(intervals) {
  const every = Math.ceil(intervals.length / POINTS_MAX);
  joined = Math.max(joined, every);
  const points = [];
  for (let i = 0; i < intervals.length; i += every) {
    const group = intervals.slice(i, i + every);
    const point = { t_s: group[group.length - 1].t_s, from: i ? intervals[i - 1].t_s : 0, requests: 0 };
    for (const [name] of LINES) point[name] = Math.max(...group.map(g => g[name]));
    for (const g of group) point.requests += g.requests;
    points.push(point);
  }
  return points;
}
function timeContent() {
  joined = 1;
  const lines = LINES.filter((_, i) => state.lines[i]);
  const shown = visible().map(run => ({ run, points: thinned(run.steps[run.shown].intervals) })).filter(s => s.points.length);
  byId("time").querySelector(".about").textContent = joined > 1
    ? `Requests by when they were answered; each point is the worst of ${joined} intervals.`
    : "Requests by when they were answered; a gap is an interval without an answer.";
  if (!shown.length || !lines.length) return null;
  // No request in an interval is no latency of nothing: the line has a gap.
  const answered = p => p.requests > 0;
  const [low, high] = extremes(shown.flatMap(s => s.points.filter(answered).flatMap(p => lines.map(([name]) => p[name]))));
  if (high === 0) return null;
  const end = Math.max(...shown.map(s => s.points[s.points.length - 1].t_s));
  return {
    low, high,
    x: (from, to) => linear(0, end, from, to),
    xTicks: (x, pixels) => x.ticks(pixels / 60).map(t => [x.at(t), +t.toPrecision(6) + " s"]),
    draw(root, x, y) {
      for (const { run, points } of shown) {
        for (const [name] of lines) {
          const style = "p" + LINES.findIndex(l => l[0] === name);
          let part = [];
          for (const p of [...points, { requests: 0 }]) {
            if (answered(p)) part.push([x.at(p.t_s), y.at(p[name])]);
            else if (part.length) { curve(root, run, style, part); part = []; }
          }
        }
      }
    },
    pick(px, py, x, y) {
      const t = x.value(px), rows = [], dots = [];
      let at = null;
      for (const { run, points } of shown) {
        const p = nearest(points, p => Math.abs(p.t_s - t));
        if (at === null) at = p.t_s;
        rows.push([run, run.label, answered(p) ? lines.map(([name]) => latency(p[name])).join(" · ") : "–", run.dashes]);
        if (shown.length === 1) rows.push([null, "answered", rate(p.requests / Math.max(1e-9, p.t_s - p.from))]);
        if (answered(p)) for (const [name] of lines) dots.push([run, x.at(p.t_s), y.at(p[name])]);
      }
      const title = +at.toPrecision(5) + " s: " + lines.map(([, text]) => text).join(" · ");
      return { at: x.at(at), title, rows, dots };
    },
  };
}

// Latency against throughput.
const isBehind = step => step.target !== null && step.rate < step.target * 0.98;
function sweepContent() {
  const levels = LEVELS.filter((_, i) => state.levels[i]);
  const shown = visible().map(run => ({ run, steps: run.steps.map((step, i) => ({ ...step, number: i })).filter(s => s.all.count > 0) })).filter(s => s.steps.length);
  if (!shown.length || !levels.length) return null;
  const [low, high] = extremes(shown.flatMap(s => s.steps.flatMap(step => levels.map(([name]) => step.all[name]))));
  const right = Math.max(...shown.flatMap(s => s.steps.map(step => step.rate)));
  return {
    low, high,
    x: (from, to) => linear(0, right * 1.04, from, to),
    xTicks: (x, pixels) => x.ticks(pixels / 55).map(r => [x.at(r), rateTick(r)]),
    draw(root, x, y, box) {
      for (const { run, steps } of shown) {
        for (const [name] of levels) {
          const points = steps.map(step => [x.at(step.rate), y.at(step.all[name])]);
          if (points.length > 1) curve(root, run, "p" + LEVELS.findIndex(l => l[0] === name), points);
          steps.forEach((step, i) => dot(root, run, points[i], isBehind(step)));
        }
      }
      const taken = [];
      for (const { run, steps } of shown) {
        const step = steps.find(step => step.number === run.knee);
        if (!step) continue;
        const cx = x.at(step.rate), heights = levels.map(([name]) => y.at(step.all[name]));
        for (const cy of heights) root.append(svg("circle", { class: "ring " + run.colour, cx, cy, r: 8 }));
        // Beside its topmost ring, on the side that the curve leaves free; higher where another is.
        const text = "knee " + rateTick(step.rate) + "/s", width = text.length * 7.2;
        const isLeft = cx - 12 - width > box.left, at = isLeft ? cx - 12 : cx + 12;
        let top = Math.max(box.top + 10, Math.min(...heights) - 4);
        for (const [other, height] of taken) {
          if (Math.abs(other - at) < width && Math.abs(height - top) < 15) top = height - 16;
        }
        taken.push([at, top]);
        root.append(svg("text", { class: "knee", x: at, y: top, "text-anchor": isLeft ? "end" : "start" }, text));
      }
    },
    pick(px, py, x, y) {
      const all = shown.flatMap(({ run, steps }) => steps.map(step => ({ run, step })));
      const height = step => Math.min(...levels.map(([name]) => Math.abs(y.at(step.all[name]) - py)));
      const { run, step } = nearest(all, ({ step }) => Math.hypot(x.at(step.rate) - px, height(step)));
      const rows = [[run, run.label, rate(step.rate), "d0"]];
      if (step.target !== null) rows.push([null, "due", rate(step.target)]);
      for (const [name, text] of LEVELS) rows.push([null, text, latency(step.all[name])]);
      rows.push([null, "max", latency(step.all.max_ns)]);
      const dots = levels.map(([name]) => [run, x.at(step.rate), y.at(step.all[name])]);
      const title = step.number === run.knee ? "knee" : isBehind(step) ? "did not keep up" : "step " + (step.number + 1);
      return { at: x.at(step.rate), title, rows, dots };
    },
  };
}

// What can be chosen.
function drawAll() {
  for (const { draw } of charts) draw();
}
function chips(name, choices) {
  const host = document.querySelector(`[data-of="${name}"]`);
  const buttons = choices.map(({ text, dashes, enabled, isOn, choose }) => {
    const button = html("button", { type: "button" });
    if (dashes) button.append(svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, svg("path", { class: "line " + dashes, d: "M1 5H25" })));
    button.append(text);
    button.disabled = enabled === false;
    button.addEventListener("click", () => { choose(); show(); drawAll(); });
    button.isOn = isOn;
    return button;
  });
  const show = () => buttons.forEach(button => button.setAttribute("aria-pressed", button.isOn()));
  show();
  host.replaceChildren(...buttons);
}
function legend() {
  const host = byId("legend");
  const isNeeded = runs.length > 1 || runs[0].steps.length > 1;
  host.hidden = !isNeeded;
  for (const run of runs) {
    const box = html("input", { type: "checkbox" });
    box.checked = true;
    const entry = html("span", { class: "run" });
    const name = html("label", {}, ...(runs.length > 1 ? [box] : []), key(run), html("span", {}, run.label));
    entry.append(name);
    box.addEventListener("change", () => {
      run.on = box.checked;
      entry.classList.toggle("off", !run.on);
      drawAll();
    });
    const emphasise = over => () => { if (runs.length > 1 && run.on) { state.over = over; drawAll(); } };
    name.addEventListener("pointerenter", emphasise(run));
    name.addEventListener("pointerleave", emphasise(null));
    if (run.steps.length > 1) {
      const choice = html("select", { "aria-label": "step of the sweep whose percentiles and course are shown" });
      run.steps.forEach((step, i) => {
        const asked = step.target === null ? rate(step.rate) : rate(step.target);
        choice.append(html("option", { value: i }, (i === run.knee ? "knee, " : "") + asked));
      });
      choice.value = run.shown;
      choice.addEventListener("change", () => { run.shown = +choice.value; drawAll(); });
      entry.append(choice);
    }
    host.append(entry);
  }
}
function theme() {
  const button = byId("theme"), root = document.documentElement;
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = isDark() ? "light" : "dark"; };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  name();
}

theme();
legend();
byId("differ-about").hidden = runs.length < 2;
const hasKind = kind => runs.some(run => run.steps.some(step => step[kind].count > 0));
if (hasKind("get") && hasKind("set")) {
  chips("kind", KINDS.map(kind => ({
    text: { all: "all requests", get: "gets", set: "sets" }[kind],
    isOn: () => state.kind === kind, choose: () => { state.kind = kind; },
  })));
}
const toggles = (list, on) => list.map(([, text], i) => ({
  text, dashes: "p" + i, isOn: () => on[i], choose: () => { on[i] = !on[i]; },
}));
chart("spectrum", { name: "latency by percentile", xName: "percentile of requests", yName: "latency (logarithmic)", content: spectrumContent });
if (runs.some(run => run.steps.length > 1)) {
  chips("level", toggles(LEVELS, state.levels));
  chart("sweep", { name: "latency against throughput", xName: "requests per second", yName: "latency (logarithmic)", content: sweepContent });
}
if (runs.some(run => run.steps.some(step => step.intervals.length))) {
  chips("line", toggles(LINES, state.lines));
  chart("time", { name: "latency over time", xName: "seconds since the measurement began", yName: "latency (logarithmic)", content: timeContent });
}
drawAll();
let width = document.body.clientWidth;
addEventListener("resize", () => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  drawAll();
});
document.body.dataset.drawn = "yes";
})();
