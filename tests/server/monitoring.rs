//! What docs/monitoring/ asks a Prometheus for: every metric that it names is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{PATIENCE, Server, free_port, project};

/// The families in /metrics with their types.
fn families() -> BTreeMap<String, String> {
    let (port, admin) = (free_port().to_string(), free_port());
    let address = format!("127.0.0.1:{admin}");
    let _server = Server::sunder(&["-p", &port, "--admin", &address]).expect("it starts");
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let types = answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

fn read(file: &str) -> String {
    let path = project().join("docs/monitoring").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("sunder_")).collect()
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_is_there() {
    let families = families();
    let is_there = |name: &str| {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
        match family {
            Some(family) if !families.contains_key(name) => {
                families.get(family).is_some_and(|kind| kind == "histogram")
            }
            _ => families.get(name).is_some_and(|kind| kind != "histogram"),
        }
    };
    for (file, least) in [("grafana.json", 35), ("alerts.yml", 20)] {
        let text = read(file);
        let names = names(&text);
        assert!(names.len() >= least, "{file}: {names:?}");
        let unknown: Vec<_> = names.into_iter().filter(|name| !is_there(name)).collect();
        assert!(unknown.is_empty(), "{file}: not in /metrics: {unknown:?}");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana.json")).expect("JSON");
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title}");
        let at = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{title}");
        for (x, y) in (0..at("w")).flat_map(|x| (0..at("h")).map(move |y| (x, y))) {
            assert!(cells.insert((at("x") + x, at("y") + y)), "{title} lies over another");
        }
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            assert!(expression.contains("instance=~\"$instance\""), "{title}: {expression}");
        }
    }
    assert!(ids.len() > 15);
}
