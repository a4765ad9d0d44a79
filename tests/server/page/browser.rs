//! A browser, driven over WebDriver (W3C, "WebDriver", Recommendation): Debian's chromium and its
//! driver. Only what the page's test needs. It asserts nothing about the page.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, free_port};

/// Keys that have no character.
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";
pub const LEFT: &str = "\u{E012}";
pub const RIGHT: &str = "\u{E014}";

/// A browser with one window; it ends when dropped.
pub struct Browser {
    port: u16,
    session: String,
    profile: PathBuf,
    driver: Server,
}

impl Browser {
    /// Starts it, with a new profile and without any connection of its own.
    pub fn start() -> Browser {
        let port = free_port();
        let profile = std::env::temp_dir().join(format!("sunder-browser-{port}"));
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = Server::start(command).expect("chromedriver: see scripts/setup.sh");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "chromedriver: {}", driver.stderr());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut args: Vec<String> = [
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "disable-dev-shm-usage",
        ]
        .map(|flag| format!("--{flag}"))
        .to_vec();
        args.push(format!("--user-data-dir={}", profile.display()));
        let mut browser = Browser { port, session: String::new(), profile, driver };
        let options = json!({ "binary": "/usr/bin/chromium", "args": args });
        let wanted =
            json!({ "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"} });
        let made =
            browser.ask("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// One exchange with the driver; the value of its answer.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver lives");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).expect("the driver reads");
        let answer = read_answer(&mut stream);
        let value: Value =
            serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
        let value = value["value"].clone();
        assert!(value.get("error").is_none(), "{method} {path} {body}: {value}");
        value
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    /// What the body of a function returns that runs in the page.
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Presses and releases keys, one after another.
    pub fn press(&self, keys: &[&str]) {
        let pair =
            |key: &&str| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}));
        let actions: Vec<Value> = keys.iter().flat_map(pair).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.command("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// A command of the browser's own protocol.
    pub fn tune(&self, command: &str, parameters: &Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.command("POST", "/goog/cdp/execute", &body);
    }

    /// What the console was told since the last call.
    pub fn console(&self) -> Vec<Value> {
        let log = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        log.as_array().expect("entries").clone()
    }
}

/// The body of an answer, whether or not the driver closes the connection after it.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 * 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(usize::MAX) {
                return body.to_owned();
            }
        }
        let count = stream.read(&mut piece).expect("the driver answers");
        assert!(count > 0, "the driver closed: {text}");
        bytes.extend(&piece[..count]);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Not through ask(), which may panic: the test may be failing already. The driver ends the
        // browser before it answers.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let request =
                format!("DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\n", self.session);
            let _ = stream.write_all((request + "Connection: close\r\n\r\n").as_bytes());
            let _ = stream.read(&mut [0; 64]);
        }
        self.driver.kill();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
