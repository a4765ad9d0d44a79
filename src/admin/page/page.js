
// Asks /feed once a second, and shows what it says. What comes from there is only ever shown as
// text: a key may be anything that a client sent.

const PERIOD = 1000;
const PATIENCE = 4000;
const HOT = 0.03;
// Requests a second from which on such a key is worth a word.
const HOT_RATE = 20;
const COMMANDS = ['get', 'set', 'other'];

const state = {
  rows: [],
  seq: 0,
  feed: null,
  rates: {},
  heard: 0,
  back: 0,
  command: 'get',
};

// A rate of counters, between this answer and the one before.
const ratesOf = (before, feed, seconds) => {
  const rates = {};
  if (before === null || seconds <= 0) return rates;
  for (const name of Object.keys(feed.counters)) {
    rates[name] = Math.max(feed.counters[name] - (before.counters[name] || 0), 0) / seconds;
  }
  return rates;
};

const take = (feed, now) => {
  const before = state.feed;
  if (before !== null && (before.pid !== feed.pid || feed.uptime < before.uptime)) {
    // Another process: its seconds have other numbers.
    Object.assign(state, { rows: [], seq: 0, feed: null, rates: {} });
    return false;
  }
  state.rates = ratesOf(before, feed, (now - state.heard) / 1000);
  state.feed = feed;
  state.heard = now;
  for (const row of feed.seconds) {
    if (row.seq > state.seq) {
      // This page slept for so long that seconds between are forgotten.
      if (row.seq !== state.seq + 1) state.rows = [];
      state.rows.push(row);
      state.seq = row.seq;
    }
  }
  state.rows.splice(0, Math.max(state.rows.length - SPAN, 0));
  return true;
};

const ask = async () => {
  const answer = await fetch('feed?since=' + state.seq, {
    cache: 'no-store',
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
};

const showLink = (kind, text) => {
  byId('link').className = 'state ' + kind;
  setText(byId('link-text'), text);
};

const turn = async () => {
  const begun = performance.now();
  try {
    const isSame = take(await ask(), performance.now());
    if (!isSame) take(await ask(), performance.now());
    document.body.classList.remove('old');
    const { ready } = state.feed;
    showLink(ready ? 'live' : 'wait', ready ? 'serving' : 'starting');
    show();
  } catch (error) {
    document.body.classList.add('old');
    showLink('lost', 'not reachable');
    showProblems([unreachable()]);
  }
  setTimeout(turn, Math.max(PERIOD - (performance.now() - begun), 100));
};

const unreachable = () => {
  const since = state.heard === 0 ? '' :
    ' since ' + span(Math.round((performance.now() - state.heard) / 1000)) +
    '. The numbers below are from before that';
  return {
    id: 'unreachable',
    level: 'bad',
    title: 'This server is not reachable',
    text: 'No answer' + since + '. Trying again each second.',
  };
};

const recent = (seconds) => state.rows.slice(-seconds);

const sum = (rows, value) => rows.reduce((all, row) => all + value(row), 0);

const hitRatio = (rows) => {
  const hits = sum(rows, (row) => row.l1_hits + row.l2_hits);
  const all = hits + sum(rows, (row) => row.misses);
  return all < 200 ? null : hits / all;
};

// What is wrong: tiers in the server's own words.
const failures = ({ degraded, ready }) => {
  const all = degraded.map((text) => {
    const tier = /^(L1|L2)\b/.exec(text);
    const title = tier ? tier[1] + ' is down' : 'Degraded';
    return { id: title + text.slice(0, 12), level: 'bad', title, text };
  });
  if (!ready) {
    const text = 'Not all workers serve yet.';
    all.push({ id: 'starting', level: 'warn', title: 'Starting', text });
  }
  return all;
};

// What an operator may have to act on, though everything works.
const notices = ({ counters, connections_max: most, hot }) => {
  const all = [];
  const add = (id, title, text) => all.push({ id, level: 'warn', title, text });
  for (const { key, share, now, rate } of hot.slice(0, 5)) {
    const part = Math.max(share, now);
    if (part >= HOT && rate >= HOT_RATE) {
      add('hot ' + key, 'Hot key', key + ' has ' + percent(part) + ' of all requests, ' +
        count(Math.round(rate)) + ' a second');
    }
  }
  const { curr_connections: open, unread_connections: unread } = counters;
  if (unread >= Math.max(4, open * 0.02)) {
    add('unread', 'Slow clients', whole(unread) + ' of ' + whole(open) +
      ' connections do not read their replies');
  }
  if (open >= 0.9 * most) {
    add('full', 'Connections', whole(open) + ' of at most ' + whole(most) + ' are open');
  }
  if (state.rates.rejected_connections > 0) {
    add('refused', 'Connections', count(Math.ceil(state.rates.rejected_connections)) +
      ' a second are refused at the limit');
  }
  const last = recent(3);
  const workers = last.length < 3 ? [] : last[0].busy;
  workers.forEach((_, n) => {
    const part = sum(last, (row) => row.busy[n]) / 3;
    if (part >= 0.95) add('busy ' + n, 'Worker ' + n, 'is busy ' + percent(part) + ' of the time');
  });
  if (state.rates.ssd_throttled > 0) {
    add('ssd', 'SSD overloaded', count(Math.ceil(state.rates.ssd_throttled)) +
      ' operations a second are refused');
  }
  const [now, usual] = [hitRatio(recent(5)), hitRatio(state.rows.slice(-300, -10))];
  if (now !== null && usual !== null && now < usual - 0.15) {
    add('hits', 'Hit ratio', 'has fallen to ' + percent(now) + ' from ' + percent(usual));
  }
  return all;
};

// Each keeps its place in the page while it lasts; a screen reader hears of it once.
const showProblems = (problems) => {
  const list = byId('problems');
  const old = new Map([...list.children].map((node) => [node.dataset.id, node]));
  const news = [];
  problems.forEach((problem, n) => {
    let node = old.get(problem.id);
    old.delete(problem.id);
    if (node === undefined) {
      node = make('li', problem.level);
      node.dataset.id = problem.id;
      node.append(make('strong'), make('span'));
      news.push(problem.title + ': ' + problem.text);
    }
    setText(node.firstChild, problem.title);
    setText(node.lastChild, problem.text);
    if (list.children[n] !== node) list.insertBefore(node, list.children[n] || null);
  });
  old.forEach((node) => node.remove());
  if (news.length > 0) setText(byId('announce'), news.join('. '));
  const bad = problems.length > 0 ? '(' + problems.length + ') ' : '';
  document.title = bad + 'sunder ' + location.host;
};

const showAbout = (feed) => {
  setText(byId('l1'), feed.l1);
  setText(byId('l2'), feed.l2);
  for (const tier of ['l1', 'l2']) {
    const isDown = feed.degraded.some((text) => text.startsWith(tier.toUpperCase()));
    byId(tier).classList.toggle('down', isDown);
    if (isDown) setText(byId(tier), feed[tier] + ' (down)');
  }
  setText(byId('uptime'), span(feed.uptime));
  setText(byId('version'), feed.version);
  setText(byId('pid'), String(feed.pid));
};

const showTiles = (feed) => {
  const { counters } = feed;
  const row = state.rows.at(-1);
  const tile = (name, big, sub) => {
    setText(byId('t-' + name), big);
    setText(byId('t-' + name + '-sub'), sub);
  };
  tile('conns', whole(counters.curr_connections), 'of ' + whole(feed.connections_max) +
    ' · ' + whole(counters.unread_connections) + ' slow');
  if (row === undefined) return;
  const rate = (value) => count(Math.round(value / row.length));
  tile('requests', rate(row.get.count + row.set.count + row.other.count) + '/s',
    rate(row.gets) + ' gets, ' + rate(row.sets) + ' sets');
  const parts = tiers(row);
  tile('hits', parts === null ? '–' : percent(parts.l1 + parts.l2), parts === null ? 'no gets' :
    feed.l2 === 'none' ? percent(parts.miss) + ' miss' :
    'L1 ' + percent(parts.l1) + ', L2 ' + percent(parts.l2));
  const { get } = row;
  tile('p99', get.count === 0 ? '–' : duration(get.p99), get.count === 0 ? 'no gets' :
    'p50 ' + duration(get.p50) + ', p99.9 ' + duration(get.p999));
  const mean = sum(row.busy, (part) => part) / Math.max(row.busy.length, 1);
  const most = Math.max(...row.busy, 0);
  tile('busy', percent(mean), row.busy.length + (row.busy.length === 1 ? ' worker' : ' workers') +
    ', busiest ' + percent(most));
  tile('evictions', rate(row.evictions) + '/s', whole(counters.evictions + counters.ssd_evicted) +
    ' since the start');
};

const showCharts = () => {
  const { rows, command, back } = state;
  drawThroughput(byId('throughput'), rows, back);
  drawHits(byId('hits'), rows, back);
  const most = drawHeat(byId('heat'), rows, command, back);
  setText(byId('c-heat'), count(most) + ' requests');
  byId('has-l2').hidden = state.feed !== null && state.feed.l2 === 'none' &&
    !rows.some((row) => row.l2_hits > 0);
  const row = rows.at(-1 - back);
  const ago = back === 0 ? 'now' : span(back) + ' ago';
  setText(byId('moment'), row === undefined ? ago + ': not recorded' :
    back === 0 ? 'now, ' + clockTime(row.at) : clockTime(row.at) + ', ' + ago);
  byId('back').setAttribute('aria-valuetext', byId('moment').textContent);
  byId('now').disabled = back === 0;
  const isPast = row !== undefined && back > 0;
  setText(byId('latency-when'), isPast ? 'at ' + clockTime(row.at) : 'now');
  showValues(row);
};

const showValues = (row) => {
  const { command } = state;
  const value = (name, text) => setText(byId('c-' + name), row === undefined ? '–' : text());
  value('gets', () => count(Math.round(row.gets / row.length)));
  value('sets', () => count(Math.round(row.sets / row.length)));
  value('other', () => count(Math.round(row.other.count / row.length)));
  const parts = row === undefined ? null : tiers(row);
  for (const name of ['l1', 'l2', 'miss']) {
    value(name, () => (parts === null ? '–' : percent(parts[name])));
  }
  const timed = (it, of) => (it.count === 0 ? '–' : duration(it[of]));
  value('p50', () => timed(row[command], 'p50'));
  value('p99', () => timed(row[command], 'p99'));
  const cells = byId('latency');
  if (cells.children.length === 0) {
    for (const name of COMMANDS) {
      const line = make('tr');
      const head = make('th', '', name);
      head.scope = 'row';
      line.append(head, make('td'), make('td'), make('td'));
      cells.append(line);
    }
  }
  COMMANDS.forEach((name, n) => {
    ['p50', 'p99', 'p999'].forEach((of, column) => {
      const text = row === undefined ? '–' : timed(row[name], of);
      setText(cells.children[n].children[column + 1], text);
    });
  });
  const said = row === undefined ? 'nothing recorded' : byId('moment').textContent;
  byId('throughput').setAttribute('aria-label', 'Throughput of ten minutes; ' + said + ': gets ' +
    byId('c-gets').textContent + ', sets ' + byId('c-sets').textContent + ' a second');
  byId('hits').setAttribute('aria-label', 'Hit ratio of ten minutes; ' + said + ': L1 ' +
    byId('c-l1').textContent + ', L2 ' + byId('c-l2').textContent + ', miss ' +
    byId('c-miss').textContent);
  byId('heat').setAttribute('aria-label', 'Times of ' + command + ' in ten minutes; ' + said +
    ': p50 ' + byId('c-p50').textContent + ', p99 ' + byId('c-p99').textContent);
};

// Bars of `all`: a name, a text and a part from 0 to 1 each.
const showBars = (list, all) => {
  while (list.children.length > all.length) list.lastChild.remove();
  while (list.children.length < all.length) {
    const item = make('li');
    const row = make('div', 'row');
    row.append(make('b'), make('span'));
    const bar = make('div', 'bar');
    bar.append(make('i'));
    bar.setAttribute('role', 'meter');
    bar.setAttribute('aria-valuemin', '0');
    bar.setAttribute('aria-valuemax', '100');
    item.append(row, bar);
    list.append(item);
  }
  all.forEach(({ name, text, part, isFull }, n) => {
    const [row, bar] = list.children[n].children;
    setText(row.firstChild, name);
    setText(row.lastChild, text);
    bar.firstChild.style.width = Math.min(part * 100, 100).toFixed(1) + '%';
    bar.setAttribute('aria-label', name);
    bar.setAttribute('aria-valuenow', String(Math.round(Math.min(part, 1) * 100)));
    bar.setAttribute('aria-valuetext', text);
    list.children[n].classList.toggle('full', isFull);
  });
};

const showRoom = (feed) => {
  const { counters } = feed;
  const of = (name, used, most, show, isFull) => {
    const text = show(used) + ' of ' + show(most) + ', ' + percent(used / most);
    return { name, text, part: used / most, isFull };
  };
  const all = [];
  if (feed.memory_max > 0) {
    const used = counters.bytes + counters.hash_bytes;
    // A full cache is as it should be.
    all.push(of('L1 memory', used, feed.memory_max, bytes, false));
  }
  if (counters.ssd_size_bytes > 0) {
    all.push(of('SSD', counters.ssd_used_bytes, counters.ssd_size_bytes, bytes, false));
  }
  const open = counters.curr_connections;
  const isFull = open >= 0.9 * feed.connections_max;
  all.push(of('Connections', open, feed.connections_max, whole, isFull));
  showBars(byId('room'), all);
  const row = state.rows.at(-1);
  const busy = row === undefined ? [] : row.busy;
  showBars(byId('workers'), busy.map((part, n) => {
    return { name: 'Worker ' + n, text: percent(part), part, isFull: part >= 0.95 };
  }));
};

const showPairs = (list, all) => {
  if (list.children.length !== all.length) {
    list.replaceChildren(...all.map(([name]) => {
      const pair = make('div');
      pair.append(make('dt', '', name), make('dd'));
      pair.dataset.name = name;
      return pair;
    }));
  }
  all.forEach(([, text, isRaised], n) => {
    const pair = list.children[n];
    setText(pair.lastChild, text);
    pair.classList.toggle('raised', Boolean(isRaised));
  });
};

const showTraffic = ({ counters }) => {
  const row = state.rows.at(-1);
  const flow = (value) => {
    return row === undefined ? '–' : bytes(Math.round(value / row.length)) + '/s';
  };
  const each = (name) => {
    const rate = state.rates[name];
    return rate === undefined ? '–' : count(Math.round(rate)) + '/s';
  };
  showPairs(byId('traffic'), [
    ['received', flow(row && row.bytes_in)],
    ['sent', flow(row && row.bytes_out)],
    ['do not read replies', whole(counters.unread_connections), counters.unread_connections > 3],
    ['opened', each('total_connections')],
    ['refused at the limit', whole(counters.rejected_connections)],
    ['closed as stalled', whole(counters.idle_kicks)],
    ['taken from slow readers', whole(counters.evicted_unread) + ' items'],
    ['visits cut short', each('conn_yields')],
    ['items', whole(counters.curr_items + counters.ssd_items)],
    ['failures of a link', whole(counters.link_failures)],
  ]);
};

const showKeys = (hot) => {
  const body = byId('keys');
  while (body.children.length > hot.length) body.lastChild.remove();
  while (body.children.length < hot.length) {
    const row = make('tr');
    const key = make('th');
    key.scope = 'row';
    row.append(key, make('td'), make('td'), make('td'));
    body.append(row);
  }
  hot.forEach(({ key, share, now, rate }, n) => {
    const row = body.children[n];
    const texts = [key, percent(now), percent(share), count(Math.round(rate))];
    texts.forEach((text, column) => setText(row.children[column], text));
    row.classList.toggle('hot', Math.max(share, now) >= HOT);
  });
  byId('no-keys').hidden = hot.length > 0;
};

const showCounters = ({ counters }) => {
  if (!byId('more').open) return;
  const wanted = byId('filter').value.trim().toLowerCase();
  const names = Object.keys(counters);
  showPairs(byId('counters'), names.map((name) => [name, whole(counters[name])]));
  for (const pair of byId('counters').children) {
    pair.hidden = !pair.dataset.name.includes(wanted);
  }
};

const show = () => {
  const { feed } = state;
  showProblems([...failures(feed), ...notices(feed)]);
  showAbout(feed);
  showTiles(feed);
  showCharts();
  showRoom(feed);
  showTraffic(feed);
  showKeys(feed.hot);
  showCounters(feed);
};

const lookBack = (back) => {
  state.back = Math.min(Math.max(back, 0), SPAN - 1);
  byId('back').value = String(-state.back);
  showCharts();
};

const listen = () => {
  byId('back').addEventListener('input', (event) => lookBack(-Number(event.target.value)));
  byId('now').addEventListener('click', () => {
    lookBack(0);
    byId('back').focus();
  });
  byId('command').addEventListener('change', (event) => {
    state.command = event.target.value;
    showCharts();
  });
  byId('more').addEventListener('toggle', () => state.feed !== null && showCounters(state.feed));
  byId('filter').addEventListener('input', () => state.feed !== null && showCounters(state.feed));
  for (const id of ['throughput', 'hits', 'heat']) {
    byId(id).addEventListener('pointerdown', (event) => {
      const inside = (event.offsetX - LEFT) / (byId(id).clientWidth - LEFT - RIGHT);
      lookBack(SPAN - 1 - Math.floor(inside * SPAN));
    });
  }
  new ResizeObserver(showCharts).observe(byId('main'));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showCharts);
};

listen();
turn();
