// Numbers as text, and the three charts. Knows nothing of where the numbers come from.
'use strict';

const SPAN = 600;
const HEAT_FROM = 8;

const byId = (id) => document.getElementById(id);

const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const make = (name, className, text) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

const digits = (value) => {
  if (value >= 99.95) return String(Math.round(value));
  return value.toFixed(value >= 9.995 ? 1 : 2);
};

const whole = (value) => grouped.format(value);

const count = (value) => {
  if (value >= 1e9) return digits(value / 1e9) + ' G';
  if (value >= 1e6) return digits(value / 1e6) + ' M';
  if (value >= 10 || Number.isInteger(value)) return whole(value);
  return value.toFixed(1);
};

const duration = (us) => {
  if (us >= 1e6) return digits(us / 1e6) + ' s';
  if (us >= 1e3) return digits(us / 1e3) + ' ms';
  return digits(us) + ' µs';
};

const bytes = (value) => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return (unit === 0 ? whole(value) : digits(value)) + ' ' + units[unit];
};

const percent = (part) => {
  const value = part * 100;
  if (value > 0 && value < 0.05) return '<0.1 %';
  // What is not all must not be shown as all.
  return (value < 100 ? Math.min(value, 99.9) : value).toFixed(1) + ' %';
};

const span = (seconds) => {
  const [d, h, m] = [86400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (d > 0) return d + ' d ' + (h % 24) + ' h';
  if (h > 0) return h + ' h ' + (m % 60) + ' min';
  if (m > 0) return m + ' min ' + (seconds % 60) + ' s';
  return seconds + ' s';
};

const clockTime = (unix) => new Date(unix * 1000).toLocaleTimeString('en-GB');

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The least round number that is not below.
const niceMax = (value) => {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 4)));
  const steps = [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10];
  return power * steps.find((step) => step * power >= value || step === 10);
};

const LEFT = 52;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 20;

// A canvas that is as sharp as the screen, with its axes' room set aside.
const surface = (canvas) => {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const ink = canvas.getContext('2d');
  ink.setTransform(scale, 0, 0, scale, 0, 0);
  ink.clearRect(0, 0, width, height);
  ink.font = '11px system-ui, sans-serif';
  const area = { ink, width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
  // Where the second that is `back` before the newest begins.
  area.x = (back) => LEFT + ((SPAN - 1 - back) / SPAN) * area.width;
  // A column of it, on whole pixels: neighbours leave no gap and do not overlap.
  area.column = (back, top, bottom) => {
    const [left, right] = [Math.round(area.x(back)), Math.round(area.x(back - 1))];
    ink.fillRect(left, top, Math.max(right - left, 1), bottom - top);
  };
  area.y = (part) => TOP + (1 - part) * area.height;
  return area;
};

const axes = (area, labels) => {
  const { ink, width, height } = area;
  ink.strokeStyle = colour('--line');
  ink.fillStyle = colour('--muted');
  ink.lineWidth = 1;
  ink.textAlign = 'right';
  ink.textBaseline = 'middle';
  for (const [part, text] of labels) {
    const y = Math.round(area.y(part)) + 0.5;
    ink.beginPath();
    ink.moveTo(LEFT, y);
    ink.lineTo(LEFT + width, y);
    ink.stroke();
    ink.fillText(text, LEFT - 6, y);
  }
  ink.textBaseline = 'top';
  const step = width < 420 ? 300 : 120;
  for (let back = 0; back <= SPAN; back += step) {
    ink.textAlign = back === 0 ? 'right' : back === SPAN ? 'left' : 'center';
    const x = LEFT + ((SPAN - back) / SPAN) * width;
    ink.fillText(back === 0 ? 'now' : '−' + back / 60 + ' min', x, TOP + height + 6);
  }
};

const mark = (area, back) => {
  if (back === 0) return;
  const { ink, height } = area;
  const x = area.x(back) + area.width / SPAN / 2;
  ink.strokeStyle = colour('--text');
  ink.lineWidth = 1;
  ink.setLineDash([]);
  ink.beginPath();
  ink.moveTo(x, TOP);
  ink.lineTo(x, TOP + height);
  ink.stroke();
};

// A line through value(row), broken where there is none.
const line = (area, rows, value, style) => {
  const { ink } = area;
  ink.strokeStyle = style.colour;
  ink.lineWidth = style.width || 1.6;
  ink.setLineDash(style.dash || []);
  ink.lineJoin = 'round';
  ink.beginPath();
  let isDown = false;
  rows.forEach((row, n) => {
    const part = value(row);
    if (part === null) {
      isDown = false;
      return;
    }
    const x = area.x(rows.length - 1 - n) + area.width / SPAN / 2;
    if (isDown) ink.lineTo(x, area.y(part));
    else ink.moveTo(x, area.y(part));
    isDown = true;
  });
  ink.stroke();
  ink.setLineDash([]);
};

const drawThroughput = (canvas, rows, back) => {
  const area = surface(canvas);
  const rates = {
    gets: (row) => row.gets / row.length,
    sets: (row) => row.sets / row.length,
    other: (row) => row.other.count / row.length,
  };
  const most = rows.reduce((max, row) => {
    return Math.max(max, rates.gets(row), rates.sets(row), rates.other(row));
  }, 0);
  const top = niceMax(most);
  axes(area, [0, 0.25, 0.5, 0.75, 1].map((part) => [part, shortCount(part * top)]));
  const drawn = (rate) => (row) => rate(row) / top;
  line(area, rows, drawn(rates.other), { colour: colour('--grey'), dash: [1.5, 2.5] });
  line(area, rows, drawn(rates.sets), { colour: colour('--text'), dash: [5, 3] });
  line(area, rows, drawn(rates.gets), { colour: colour('--accent'), width: 2 });
  mark(area, back);
};

const shortTime = (us) => {
  for (const [unit, name] of [[1e6, ' s'], [1e3, ' ms'], [1, ' µs']]) {
    if (us >= unit) return Number((us / unit).toPrecision(2)) + name;
  }
  return Math.round(us * 1000) + ' ns';
};

const shortCount = (value) => {
  for (const [unit, name] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (value >= unit) return Number((value / unit).toPrecision(3)) + name;
  }
  return String(Number(value.toPrecision(3)));
};

const tiers = (row) => {
  const all = row.l1_hits + row.l2_hits + row.misses;
  if (all === 0) return null;
  return { l1: row.l1_hits / all, l2: row.l2_hits / all, miss: row.misses / all };
};

const drawHits = (canvas, rows, back) => {
  const area = surface(canvas);
  const { ink } = area;
  const paint = (n, from, to, fill) => {
    ink.fillStyle = fill;
    area.column(rows.length - 1 - n, area.y(to), area.y(from));
  };
  const fills = [colour('--accent'), colour('--accent-2'), colour('--track')];
  rows.forEach((row, n) => {
    const parts = tiers(row);
    if (parts === null) return;
    paint(n, 0, parts.l1, fills[0]);
    paint(n, parts.l1, parts.l1 + parts.l2, fills[1]);
    paint(n, parts.l1 + parts.l2, 1, fills[2]);
  });
  axes(area, [0, 0.25, 0.5, 0.75, 1].map((part) => [part, part * 100 + ' %']));
  mark(area, back);
};

// The powers of two that are shown: those that occur, and some around them.
const heatRange = (rows, command) => {
  let [low, high] = [Infinity, -Infinity];
  for (const row of rows) {
    row[command].heat.forEach((n, power) => {
      if (n > 0) [low, high] = [Math.min(low, power), Math.max(high, power)];
    });
  }
  if (low === Infinity) [low, high] = [2, 12];
  while (high - low < 9) {
    if (high < 25) high += 1;
    if (low > 0 && high - low < 9) low -= 1;
  }
  return [low, high];
};

const drawHeat = (canvas, rows, command, back) => {
  const area = surface(canvas);
  const { ink, height } = area;
  const [low, high] = heatRange(rows, command);
  const steps = high - low + 1;
  const most = rows.reduce((max, row) => Math.max(max, ...row[command].heat), 0);
  const part = (us) => {
    const power = Math.log2(Math.max(us, 0.001) * 1000) - HEAT_FROM + 1;
    return Math.min(Math.max((power - low) / steps, 0), 1);
  };
  ink.fillStyle = colour('--accent');
  rows.forEach((row, n) => {
    row[command].heat.forEach((requests, power) => {
      if (requests === 0 || power < low || power > high) return;
      ink.globalAlpha = 0.1 + 0.9 * (Math.log1p(requests) / Math.log1p(most));
      const y = area.y((power - low + 1) / steps);
      area.column(rows.length - 1 - n, y, y + height / steps - 1);
    });
  });
  ink.globalAlpha = 1;
  const labels = [];
  const every = steps > 16 ? 4 : 2;
  for (let power = low; power <= high; power += every) {
    const us = 2 ** (power + HEAT_FROM) / 1000;
    labels.push([(power - low + 1) / steps, shortTime(us)]);
  }
  axes(area, labels);
  const has = (pick) => (row) => (row[command].count === 0 ? null : part(pick(row[command])));
  line(area, rows, has((it) => it.p50), { colour: colour('--text'), width: 1.2 });
  line(area, rows, has((it) => it.p99), { colour: colour('--text'), width: 1.2, dash: [4, 3] });
  mark(area, back);
  return most;
};
