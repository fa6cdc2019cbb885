// SPDX-License-Identifier: GPL-2.0

//! What a command has to say, for people or for programs.

use crate::failure::Result;
use serde_json::Value;
use std::io;
use std::io::Write;

/// Prints a value: as JSON, or as indented lines.
pub(crate) fn print(value: &Value, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{value:#}")?;
    } else {
        print_lines(&mut out, value, 0)?;
    }
    Ok(())
}

fn print_lines(out: &mut dyn Write, value: &Value, depth: usize) -> io::Result<()> {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if field.is_object() || field.is_array() {
                    writeln!(out, "{indent}{name}:")?;
                    print_lines(out, field, depth + 1)?;
                } else {
                    writeln!(out, "{indent}{name}: {}", plain(field))?;
                }
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| print_item(out, item, depth)),
        plain_value => writeln!(out, "{indent}{}", plain(plain_value)),
    }
}

/// An item of a list: its fields on one line.
fn print_item(out: &mut dyn Write, item: &Value, depth: usize) -> io::Result<()> {
    let indent = "  ".repeat(depth);
    match item {
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, field)| format!("{name} {}", plain(field)))
                .collect();
            writeln!(out, "{indent}{}", fields.join(", "))
        }
        other => writeln!(out, "{indent}{}", plain(other)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}
