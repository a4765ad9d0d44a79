//! The live page in a real browser, on a server with two tiers under load: what a person sees, by
//! which time, with keyboard and phone; and that what clients send stays text.

mod browser;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::Client;
use crate::support::{PATIENCE, SUNDER, Server, free_port, free_socket_path};
use browser::{Browser, ENTER, LEFT, RIGHT, TAB};

/// A key that would run a script if it were ever taken for markup.
const HOT: &str = "<img/src=x/onerror=document.title=1>";

/// A server with a memcached as L1 and another as L2.
struct Bench {
    server: Server,
    l1: Server,
    l2: Server,
    port: u16,
    admin: u16,
    flags: Vec<String>,
    l1_path: PathBuf,
}

impl Bench {
    fn start() -> Bench {
        let (port, admin) = (free_port(), free_port());
        let paths = [free_socket_path(), free_socket_path()];
        let [l1, l2] = [memcached(&paths[0]), memcached(&paths[1])];
        let tier = |path: &Path| format!("memcached,addr=unix:{}", path.display());
        let flags = [
            ("-p", port.to_string()),
            ("--admin", format!("127.0.0.1:{admin}")),
            ("-t", "1".to_owned()),
            ("-c", "200".to_owned()),
            ("--sample", "8".to_owned()),
            ("--l1", tier(&paths[0])),
            ("--l2", tier(&paths[1])),
        ];
        let flags: Vec<String> =
            flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let [l1_path, _] = paths;
        Bench { server: serve(&flags), l1, l2, port, admin, flags, l1_path }
    }

    fn client(&self) -> Client {
        Client::connect(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }
}

fn memcached(path: &Path) -> Server {
    Server::memcached_at(path, 64).expect("memcached")
}

fn serve(flags: &[String]) -> Server {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Server::sunder(&flags).expect("it starts")
}

/// Requests of many keys, for a bounded time, until it is dropped.
fn load(port: u16) -> Server {
    let mut command = Command::new(SUNDER);
    command.args(["bench", &format!("127.0.0.1:{port}"), "--rate", "1500", "--duration", "60"]);
    command.args(["--connections", "8", "--keys", "2000", "--timeout", "60"]);
    Server::start(command).expect("it starts")
}

/// Gets of one key: some 5 % of all requests.
fn hot(port: u16, is_over: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
        while !is_over.load(Relaxed) {
            client.send(format!("get {HOT}\r\n").as_bytes());
            // A failing tier may answer with an error; what it is is not asked here.
            while !["END\r\n", "SERVER_ERROR"].iter().any(|it| client.line().starts_with(it)) {}
            std::thread::sleep(Duration::from_millis(12));
        }
    })
}

/// Waits until an expression is true in the page; how long it took.
fn until(browser: &Browser, what: &str, expression: &str) -> Duration {
    let start = Instant::now();
    while browser.run(&format!("return Boolean({expression})")) != true {
        let seen = || browser.run("return document.body.innerText");
        assert!(start.elapsed() < PATIENCE, "{what}: {expression}\n{}", seen());
        std::thread::sleep(Duration::from_millis(30));
    }
    println!("{what}: {} ms", start.elapsed().as_millis());
    start.elapsed()
}

/// Something that needs attention is on the page.
fn problem(text: &str) -> String {
    format!("document.getElementById('problems').innerText.includes({})", json!(text))
}

/// A text of the page.
fn text(browser: &Browser, id: &str) -> String {
    let text = browser.run(&format!("return document.getElementById('{id}').textContent"));
    text.as_str().expect("text").to_owned()
}

#[test]
fn the_page_shows_what_happens_within_seconds() {
    let mut bench = Bench::start();
    let browser = Browser::start();
    bench.client().set("large", &vec![b'x'; 500_000]);
    browser.open(&format!("http://127.0.0.1:{}/", bench.admin));
    let mut running = load(bench.port);
    let has_rows = "state.rows.some((row) => row.gets > 500) && state.rows.length > 2";
    until(&browser, "there are numbers", has_rows);
    until(&browser, "no tier is down", "document.querySelector('#problems .bad') === null");
    a_hot_key_is_text(&browser, &bench);
    clients_that_do_not_read_are_seen(&browser, &bench);
    a_lost_l1_and_a_frozen_l2_are_told(&browser, &mut bench);
    running.kill();
    numbers_equal_stats(&browser, &bench);
    everything_is_done_with_keys(&browser);
    everything_fits_a_phone_and_can_be_read(&browser);
    nothing_went_wrong_in_the_browser(&browser, &bench);
    a_lost_server_is_told_and_found_again(&browser, &mut bench);
    assert_eq!(bench.server.terminate(), Ok(0));
}

fn a_hot_key_is_text(browser: &Browser, bench: &Bench) {
    let is_over = Arc::new(AtomicBool::new(false));
    let requests = hot(bench.port, Arc::clone(&is_over));
    until(browser, "a key of some 5 % of all requests is seen", &problem(HOT));
    let keys = "[...document.querySelectorAll('#keys th')].some((th) => th.textContent === ";
    until(browser, "it is among the top keys", &format!("{keys}{})", json!(HOT)));
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
    assert_ne!(browser.run("return document.title"), "1");
    is_over.store(true, Relaxed);
    requests.join().expect("it was answered");
}

fn clients_that_do_not_read_are_seen(browser: &Browser, bench: &Bench) {
    let herd: Vec<Client> = std::iter::repeat_with(|| {
        let mut client = bench.client();
        client.send("get large\r\n".repeat(20).as_bytes());
        client
    })
    .take(20)
    .collect();
    until(browser, "clients that do not read are seen", &problem("do not read their replies"));
    drop(herd);
    let unread = "state.feed.counters.unread_connections";
    until(browser, "they are gone", &format!("{unread} === 0 && !{}", problem("do not read")));
}

fn a_lost_l1_and_a_frozen_l2_are_told(browser: &Browser, bench: &mut Bench) {
    bench.l2.signal(Signal::STOP);
    until(browser, "a frozen L2 is told", &problem("L2 is down"));
    bench.l2.signal(Signal::CONT);
    until(browser, "it is used again", &format!("!{}", problem("L2 is down")));
    bench.l1.kill();
    until(browser, "a killed L1 is told", &problem("L1 is down"));
    assert!(text(browser, "l1").ends_with("(down)"), "{}", text(browser, "l1"));
}

/// All counters that `stats` itself does not change.
fn numbers_equal_stats(browser: &Browser, bench: &Bench) {
    let mut client = bench.client();
    browser.run("document.getElementById('more').open = true");
    let mut differences = Vec::new();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        client.send(b"stats\r\n");
        let lines = std::iter::repeat_with(|| client.line().trim_end().to_owned());
        let stats: BTreeMap<String, String> = lines
            .take_while(|line| line != "END")
            .filter_map(|line| {
                let (name, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        let shown = browser.run(
            "return Object.fromEntries([...document.querySelectorAll('#counters div')].map((it) => \
             [it.dataset.name, it.lastChild.textContent.replaceAll(',', '')]))",
        );
        let moving =
            ["bytes_read", "bytes_written", "conn_yields", "turns", "turns_idle", "busy_us"];
        let shown: BTreeMap<String, String> = serde_json::from_value(shown).expect("texts");
        let compared: Vec<_> = shown
            .iter()
            .filter(|(name, _)| !moving.contains(&name.as_str()) && stats.contains_key(*name))
            .collect();
        assert!(compared.len() > 80 || shown.is_empty(), "{shown:?}");
        differences = compared
            .iter()
            .filter(|(name, value)| stats[*name] != **value)
            .map(|(name, value)| format!("{name}: {value}, stats: {}", stats[*name]))
            .collect();
        let tile = text(browser, "t-conns");
        if tile != stats["curr_connections"] {
            differences.push(format!("connections: {tile}"));
        }
        if !shown.is_empty() && differences.is_empty() && shown["cmd_get"] != "0" {
            println!("{} numbers of the page equal those of stats", compared.len());
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{differences:#?}");
}

fn everything_is_done_with_keys(browser: &Browser) {
    browser.run("document.getElementById('more').open = false; document.activeElement.blur()");
    let focus = |wanted: &str| {
        for _ in 0..30 {
            browser.press(&[TAB]);
            if browser.run(&format!("return document.activeElement.matches({})", json!(wanted)))
                == true
            {
                let style = "return getComputedStyle(document.activeElement).outlineStyle + \
                             getComputedStyle(document.activeElement.nextElementSibling || \
                             document.body).outlineStyle";
                let style = browser.run(style).to_string();
                assert!(style.contains("solid") || style.contains("auto"), "{wanted}: {style}");
                return;
            }
        }
        panic!("Tab does not lead to {wanted}");
    };
    focus("#back");
    browser.press(&[LEFT, LEFT, LEFT]);
    assert!(text(browser, "moment").ends_with("3 s ago"), "{}", text(browser, "moment"));
    focus("#now");
    browser.press(&[ENTER]);
    assert!(text(browser, "moment").starts_with("now"), "{}", text(browser, "moment"));
    focus("[name=command]");
    browser.press(&[RIGHT]);
    let label = "return document.getElementById('heat').getAttribute('aria-label')";
    let label = browser.run(label).to_string();
    assert!(label.contains("Times of set"), "{label}");
    focus("summary");
    browser.press(&[ENTER]);
    until(browser, "the counters are shown", "document.querySelector('#counters div').offsetWidth");
}

/// No text is in a colour that is too close to what is behind it (WCAG 2.2, 1.4.3: 4.5 to 1).
const CONTRAST: &str = "
    const light = (css) => {
      const [r, g, b] = css.match(/[\\d.]+/g).map((it) => it / 255)
        .map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
      for (let at = node; at !== null; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (colour !== 'rgba(0, 0, 0, 0)') return colour;
      }
      return 'rgb(255, 255, 255)';
    };
    const bad = [];
    for (const node of document.querySelectorAll('body *')) {
      const own = [...node.childNodes].some((it) => it.nodeType === 3 && it.data.trim() !== '');
      if (!own || node.offsetWidth === 0) continue;
      const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < 4.5) bad.push(node.tagName + ' ' + node.textContent + ' ' + ratio.toFixed(2));
    }
    return bad;";

/// What stands out of a window to its right.
const WIDE: &str = "
    const wide = [...document.querySelectorAll('body *')].filter((node) =>
      node.getBoundingClientRect().right > innerWidth + 0.5 && !node.closest('.unseen'));
    if (document.documentElement.scrollWidth > innerWidth) wide.push(document.documentElement);
    return wide.map((node) => node.outerHTML.slice(0, 200));";

/// Whether each chart has something in it.
const DRAWN: &str = "[...document.querySelectorAll('canvas')].every((it) => {
    const copy = new OffscreenCanvas(it.width, it.height);
    const ink = copy.getContext('2d', { willReadFrequently: true });
    ink.drawImage(it, 0, 0);
    return ink.getImageData(0, 0, it.width, it.height).data.some(Boolean);
  })";

fn everything_fits_a_phone_and_can_be_read(browser: &Browser) {
    for (width, scheme) in [(360, "light"), (360, "dark"), (1280, "dark")] {
        let device = json!({"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": true});
        browser.tune("Emulation.setDeviceMetricsOverride", &device);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.tune("Emulation.setEmulatedMedia", &json!({ "features": features }));
        until(browser, "the window has its size", &format!("innerWidth === {width}"));
        assert_eq!(browser.run(WIDE), json!([]), "{width} {scheme}");
        assert_eq!(browser.run(CONTRAST), json!([]), "{width} {scheme}");
        let shown = browser.run("return document.body.innerText").to_string();
        assert!(!["NaN", "undefined", "Infinity"].iter().any(|it| shown.contains(it)), "{shown}");
        until(browser, "all charts are drawn", DRAWN);
    }
}

fn nothing_went_wrong_in_the_browser(browser: &Browser, bench: &Bench) {
    assert_eq!(browser.console(), Vec::<serde_json::Value>::new());
    let loaded =
        browser.run("return performance.getEntriesByType('resource').map((it) => it.name)");
    let origin = format!("http://127.0.0.1:{}/feed?since=", bench.admin);
    let loaded: Vec<String> = serde_json::from_value(loaded).expect("addresses");
    assert!(!loaded.is_empty() && loaded.iter().all(|it| it.starts_with(&origin)), "{loaded:?}");
}

fn a_lost_server_is_told_and_found_again(browser: &Browser, bench: &mut Bench) {
    let before = text(browser, "pid");
    bench.server.kill();
    until(browser, "a lost server is told", &problem("This server is not reachable"));
    // No server starts without its L1.
    bench.l1 = memcached(&bench.l1_path);
    bench.server = serve(&bench.flags);
    until(
        browser,
        "it is found again",
        "document.getElementById('link-text').textContent === 'serving'",
    );
    assert_ne!(text(browser, "pid"), before);
    until(browser, "its seconds are new", "state.rows.length > 0 && state.rows[0].seq < 20");
}
