//! A result survives its file; what is no result is refused with a line that says why.

use super::*;

/// A histogram of `values` values, with a long tail.
fn histogram(values: u64) -> Histogram<u64> {
    let mut histogram = examples::histogram();
    for i in 0..values {
        histogram
            .record(10_000 + i * 37 + if i % 997 == 0 { 90_000_000 } else { 0 })
            .expect("fits");
    }
    histogram
}

fn result() -> RunResult {
    let interval =
        Interval { t_s: 0.1, requests: 100, p50_ns: 12_000, p99_ns: 80_000, max_ns: 90_000_000 };
    let step = |rate: Option<f64>| Step {
        elapsed_s: 10.000123,
        misses: 1,
        errors: 2,
        mismatches: 3,
        bytes_received: u64::MAX,
        ..examples::step(rate, 999.9877001512928, &histogram(9_000), &histogram(0), vec![interval])
    };
    let steps = vec![step(Some(1000.0)), step(None)];
    let mut result = examples::run("\"a\" </script> \u{1F980}\n", steps, Some(1));
    result.notes.push("closed loop: a stall is seen by one request a connection".into());
    result
}

fn refusal(text: &str) -> String {
    RunResult::from_json(text).expect_err("refused").to_string()
}

#[test]
fn a_result_survives_its_text() {
    let result = result();
    assert_eq!(RunResult::from_json(&result.to_json()).expect("reads"), result);
}

#[test]
fn a_result_survives_its_file() {
    let path = std::env::temp_dir().join(format!("sunder-result-{}.json", std::process::id()));
    let result = result();
    result.save(&path).expect("writes");
    let loaded = RunResult::load(&path);
    fs::remove_file(&path).expect("was written");
    assert_eq!(loaded.expect("reads"), result);
    assert!(matches!(RunResult::load(&path), Err(Unreadable::Io(_))));
}

#[test]
fn the_names_in_the_file_stay() {
    let json: serde_json::Value = serde_json::from_str(&result().to_json()).expect("JSON");
    assert_eq!(json["format"], "sunder-bench 1");
    assert_eq!(json["setup"]["loop"], "open");
    assert_eq!(json["steps"][0]["latency"]["all"]["count"], 9_000);
    assert_eq!(json["steps"][1]["rate_target"], serde_json::Value::Null);
}

#[test]
fn a_histogram_survives_with_all_its_values() {
    let before = histogram(100_000);
    let after = Spectrum::of(&before).histogram().expect("decodes");
    assert_eq!(after.len(), before.len());
    assert_eq!(after.max(), before.max());
    for quantile in [0.0, 0.5, 0.99, 0.999, 0.9999, 1.0] {
        assert_eq!(after.value_at_quantile(quantile), before.value_at_quantile(quantile));
    }
}

#[test]
fn a_spectrum_ends_with_everything_once() {
    let spectrum = Spectrum::of(&histogram(10_000));
    let points = &spectrum.percentiles;
    let last = points.last().expect("points");
    assert_eq!((last.0, last.2), (1.0, 10_000));
    assert_eq!(points.iter().filter(|point| point.0 >= 1.0).count(), 1);
    assert_eq!(last.1, histogram(10_000).value_at_quantile(1.0));
    assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1 && a.2 <= b.2));
    for &(share, value, count) in points {
        assert_eq!(count, histogram(10_000).count_between(0, value), "at {share}");
    }
}

#[test]
fn a_spectrum_of_nothing_is_empty() {
    let spectrum = Spectrum::of(&histogram(0));
    assert_eq!((spectrum.count, spectrum.min_ns, spectrum.max_ns), (0, 0, 0));
    assert_eq!(spectrum.percentiles, []);
    assert_eq!(spectrum.histogram().expect("decodes").len(), 0);
}

#[test]
fn a_rate_over_no_time_can_be_read_again() {
    let mut result = result();
    result.steps[0].rate = f64::INFINITY;
    result.steps[0].rate_target = Some(f64::NAN);
    let again = RunResult::from_json(&result.to_json()).expect("reads");
    assert_eq!((again.steps[0].rate, again.steps[0].rate_target), (0.0, None));
}

#[test]
fn what_is_not_ours_is_refused() {
    assert_eq!(refusal(""), "is empty");
    assert_eq!(refusal(" \n"), "is empty");
    for text in ["hello", "[1]", "{}", "7", "{\"format\":7}", "{\"format\":\"other 1\"}"] {
        assert_eq!(refusal(text), "not a result of sunder bench", "{text}");
    }
    let evil = "{\"format\":\"sunder-bench \\u001b[31m\"}";
    assert_eq!(refusal(evil), "not a result of sunder bench");
}

#[test]
fn another_version_is_named() {
    let text = result().to_json().replace(FORMAT, "sunder-bench 2");
    assert_eq!(
        refusal(&text),
        "has the format \"sunder-bench 2\", this sunder reads \"sunder-bench 1\""
    );
}

#[test]
fn a_file_cut_anywhere_is_said_to_be_cut() {
    let text = result().to_json();
    let text = text.trim_end();
    // The label is not ASCII: cut only where a character ends.
    for end in (1..text.len()).step_by(61).filter(|end| text.is_char_boundary(*end)) {
        assert_eq!(refusal(&text[..end]), "ends in the middle: was it written to its end?");
    }
}

#[test]
fn what_does_not_hold_together_is_refused() {
    let refused = |change: fn(&mut RunResult)| {
        let mut result = result();
        change(&mut result);
        refusal(&result.to_json())
    };
    assert_eq!(refused(|r| r.steps.clear()), "damaged: no step");
    assert_eq!(refused(|r| r.knee = Some(2)), "damaged: the knee is step 2 of 2");
    assert_eq!(
        refused(|r| r.steps[1].latency.get.count = 5),
        "damaged: step 1, latency of get: holds 9000 values instead of 5"
    );
    assert_eq!(
        refused(|r| r.steps[0].latency.all.percentiles.reverse()),
        "damaged: step 0, latency of all: percentiles out of order"
    );
    assert!(
        refused(|r| r.steps[0].latency.all.hdr_base64.truncate(40))
            .starts_with("damaged: step 0, latency of all: ")
    );
    let missing = result().to_json().replace("\"errors\"", "\"mistakes\"");
    assert!(refusal(&missing).starts_with("damaged: missing field `errors`"));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let path = std::env::temp_dir().join(format!("sunder-no-text-{}", std::process::id()));
    fs::write(&path, b"\xff\xfe{}").expect("writes");
    let loaded = RunResult::load(&path);
    fs::remove_file(&path).expect("was written");
    assert!(matches!(loaded, Err(Unreadable::Foreign)));
}

#[test]
fn a_result_without_the_servers_version_is_read() {
    let text = result().to_json().replace(",\"server\":\"1.6.18\"", "");
    assert!(!text.contains("\"server\""), "it was there");
    assert_eq!(RunResult::from_json(&text).expect("readable").server, None);
}
