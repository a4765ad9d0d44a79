//! The table of command lines: what each was taken for when the table was written, and must be
//! taken for still. `SUNDER_TABLE=write` writes it anew, for a change that is wanted.

use std::ffi::OsString;
use std::fmt::{Debug, Write};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::Command;
use crate::config::Config;
use crate::load::bench::options::{self as bench, Asked as BenchAsked};
use crate::load::options::{self as tool, Asked};
use crate::load::{blast, fill, report, setget, sizes};

/// What a command line is taken for.
enum Outcome {
    Refused,
    Printed,
    Told(String),
}

/// The words of a line, in which `\xff` is a byte.
fn words(line: &str) -> Vec<OsString> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("two digits");
    let word = |word: &str| {
        let mut parts = word.split("\\x");
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            bytes.push(byte(&part[..2]));
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        OsString::from_vec(bytes)
    };
    line.split(' ').filter(|word| !word.is_empty()).map(word).collect()
}

/// The fields of a value, a line each.
fn fields(value: &dyn Debug) -> Vec<String> {
    let text = format!("{value:#?}");
    let mut fields: Vec<String> = vec![];
    for line in text.lines() {
        let is_field = line.starts_with("    ") && !line.starts_with("     ");
        match fields.last_mut() {
            Some(field) if !is_field || line.trim_start().starts_with(['}', ']', ')']) => {
                field.push_str(line.trim_start());
            }
            _ => fields.push(line.trim_start().to_owned()),
        }
    }
    fields
}

/// The fields of `value` in which it is not `default`.
fn differences(value: &dyn Debug, default: &dyn Debug) -> Outcome {
    let default = fields(default);
    let told = fields(value).into_iter().filter(|field| !default.contains(field));
    Outcome::Told(told.map(|field| format!("    {field}\n")).collect())
}

fn outcome(line: &str) -> Outcome {
    let (tool, rest) = match super::parse(words(line)) {
        Err(_) => return Outcome::Refused,
        Ok(Command::Print(_)) => return Outcome::Printed,
        Ok(Command::Serve(config)) => return differences(&config, &Config::default()),
        Ok(Command::Tool(tool, rest)) => (tool.name, rest),
    };
    let spec = match tool {
        "bench" if rest.first().is_some_and(|word| word == "report") => {
            return match report::parse(rest.into_iter().skip(1)) {
                Err(_) => Outcome::Refused,
                Ok(request) if request.printed.is_some() => Outcome::Printed,
                Ok(request) => differences(&request, &()),
            };
        }
        "bench" => {
            let plan = |words| match bench::parse(words) {
                Err(_) => Err(Outcome::Refused),
                Ok(BenchAsked::Print(_)) => Err(Outcome::Printed),
                Ok(BenchAsked::Plan(plan)) => Ok(plan),
            };
            return match (plan(rest), plan(vec![])) {
                (Err(outcome), _) | (_, Err(outcome)) => outcome,
                (Ok(plan), Ok(default)) => differences(&plan, &default),
            };
        }
        "l2" => {
            let rest: Vec<_> = rest.iter().filter_map(|word| word.to_str()).collect();
            return match rest[..] {
                ["check", path] if !path.starts_with('-') => {
                    Outcome::Told(format!("    check {path}\n"))
                }
                ["-h" | "--help" | "-V" | "--version"] | ["check", "-h" | "--help"] => {
                    Outcome::Printed
                }
                _ => Outcome::Refused,
            };
        }
        "blast" => &blast::BLAST,
        "setops" => &blast::SETOPS,
        "setget" => &setget::SPEC,
        "sizes" => &sizes::SPEC,
        "fill" => &fill::SPEC,
        tool => panic!("{tool}"),
    };
    match (tool::parse(spec, rest), tool::parse(spec, vec![])) {
        (Ok(Asked::Run(options)), Ok(Asked::Run(default))) => differences(&options, &default),
        (Ok(Asked::Print(_)), _) => Outcome::Printed,
        _ => Outcome::Refused,
    }
}

#[test]
fn every_command_line_is_taken_for_what_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command_lines/table.txt");
    let table = fs::read_to_string(&path).expect("the table");
    let mut now = String::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let said = match outcome(line) {
            Outcome::Refused => "    refused\n".to_owned(),
            Outcome::Printed => "    printed\n".to_owned(),
            Outcome::Told(text) if text.is_empty() => "    as without flags\n".to_owned(),
            Outcome::Told(text) => text,
        };
        write!(now, "$ {line}\n{said}").expect("a string");
    }
    if std::env::var_os("SUNDER_TABLE").is_some_and(|how| how == "write") {
        return fs::write(&path, now).expect("written");
    }
    for (was, is) in table.split("$ ").zip(now.split("$ ")) {
        assert_eq!(was, is, "sunder {}", was.lines().next().unwrap_or_default());
    }
    assert_eq!(table.len(), now.len());
}
