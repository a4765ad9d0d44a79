//! The table of command lines: what each is taken for. It was written by the parser before clap;
//! `SUNDER_TABLE=write` writes it anew, for a change that is wanted.

use std::ffi::OsString;
use std::fmt::{Debug, Write};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::{Command, parse};

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
fn differences(value: &dyn Debug, default: &dyn Debug) -> String {
    let default = fields(default);
    let told = fields(value).into_iter().filter(|field| !default.contains(field));
    let told: String = told.map(|field| format!("    {field}\n")).collect();
    if told.is_empty() { "    as without flags\n".to_owned() } else { told }
}

fn outcome(line: &str) -> String {
    let command = match parse(words(line)) {
        Ok(command) => command,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && text.len() < 600, "{line}: {text}");
            return "    refused\n".to_owned();
        }
    };
    let tool = line.split(' ').next().unwrap_or_default();
    match (command, parse([tool.into()])) {
        (Command::Print(_), _) => "    printed\n".to_owned(),
        (Command::Top(address), _) => format!("    {address}\n"),
        (Command::Stat(it), _) => format!("    {it:?}\n"),
        (Command::CheckLog(path), _) => format!("    check {}\n", path.display()),
        (Command::MakePassword(it), _) => {
            format!("    {} m={},t={}\n", it.user, it.kib, it.passes)
        }
        (Command::Report(request), _) => differences(&request, &()),
        (Command::Serve(is), Ok(Command::Serve(default))) => differences(&is, &default),
        (Command::Examine(is, wishes), Ok(Command::Examine(default, _))) => {
            format!("{}    {wishes:?}\n", differences(&is, &default))
        }
        (Command::Bench(is), Ok(Command::Bench(default))) => {
            let plan = differences(&is.plan, &default.plan);
            match (&is.json, &is.hgrm) {
                (None, None) => plan,
                (json, hgrm) => format!("{plan}    json: {json:?}, hgrm: {hgrm:?}\n"),
            }
        }
        (Command::Tool(_, is), Ok(Command::Tool(_, default))) => differences(&is, &default),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn every_command_line_is_taken_for_what_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command_lines/table.txt");
    let table = fs::read_to_string(&path).expect("the table");
    let mut now = String::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("$ ")) {
        write!(now, "$ {line}\n{}", outcome(line)).expect("a string");
    }
    if std::env::var_os("SUNDER_TABLE").is_some_and(|how| how == "write") {
        return fs::write(&path, now).expect("written");
    }
    let differ = table.split("$ ").zip(now.split("$ ")).filter(|(was, is)| was != is);
    let differ: String = differ.map(|(was, is)| format!("was: {was}is: {is}")).collect();
    assert!(differ.is_empty(), "\n{differ}");
    assert_eq!(table.len(), now.len());
}
