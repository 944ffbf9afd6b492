//! The MIB modules, made from the schema. `cargo xtask mib` writes them to `mibs/`, where they are committed.

mod exceliance;
mod lbstatd;

use crate::schema::{LBSTATD_ROOT, Syntax, TableSchema};

pub use exceliance::exceliance;
pub use lbstatd::lbstatd;

/// Texts are broken before this column.
const WIDTH: usize = 78;

/// Each module's name and text, LBSTATD-MIB under this root or else under [`LBSTATD_ROOT`].
pub fn modules(root: Option<&[u32]>) -> [(&'static str, String); 2] {
    [("EXCELIANCE-MIB", exceliance()), ("LBSTATD-MIB", lbstatd(root.unwrap_or(LBSTATD_ROOT)))]
}

fn syntax(syntax: Syntax) -> &'static str {
    match syntax {
        Syntax::Integer => "INTEGER (0..2147483647)",
        Syntax::YesNo => "INTEGER { no(0), yes(1) }",
        Syntax::Counter32 => "Counter32",
        Syntax::Counter64 => "Counter64",
        Syntax::Text => "OCTET STRING (SIZE (0..65535))",
        Syntax::Name => "DisplayString (SIZE (1..64))",
        Syntax::Unsigned => "Unsigned32",
        Syntax::Gauge32 => "Gauge32",
        Syntax::Gauge64 => "CounterBasedGauge64",
        Syntax::Truth => "TruthValue",
        Syntax::AddressType => "InetAddressType",
        Syntax::Address => "InetAddress (SIZE (4|16|20))",
        Syntax::Port => "InetPortNumber",
        Syntax::Histogram(_) => unreachable!("the schema's check lets no histogram into a MIB"),
    }
}

/// As a member of a SEQUENCE, without ranges and names of numbers.
fn base_syntax(of: Syntax) -> &'static str {
    match of {
        Syntax::Integer | Syntax::YesNo => "INTEGER",
        Syntax::Text => "OCTET STRING",
        Syntax::Name => "DisplayString",
        Syntax::Address => "InetAddress",
        _ => syntax(of),
    }
}

fn push_object(mib: &mut String, name: &str, syntax: &str, access: &str, meaning: &str, place: &str) {
    push_indexed(mib, name, syntax, access, meaning, "", place);
}

fn push_indexed(mib: &mut String, name: &str, syntax: &str, access: &str, meaning: &str, index: &str, place: &str) {
    mib.push_str(&format!("{name} OBJECT-TYPE\n    SYNTAX      {syntax}\n    MAX-ACCESS  {access}\n"));
    mib.push_str("    STATUS      current\n");
    push_description(mib, meaning);
    mib.push_str(&format!("{index}    ::= {{ {place} }}\n\n"));
}

fn push_description(mib: &mut String, text: &str) {
    mib.push_str("    DESCRIPTION\n        \"");
    let mut column = 9;
    for (place, word) in text.split(' ').enumerate() {
        if place > 0 {
            let fits = column + 1 + word.len() < WIDTH; // with room for the closing quote
            mib.push_str(if fits { " " } else { "\n        " });
            column = if fits { column + 1 } else { 8 };
        }
        mib.push_str(word);
        column += word.len();
    }
    mib.push_str("\"\n");
}

/// The members of a table's rows.
fn push_row_type(mib: &mut String, row_type: &str, table: &TableSchema) {
    let members: Vec<String> = (table.mib_columns().iter())
        .map(|column| format!("    {:<31} {}", column.name, base_syntax(column.syntax)))
        .collect();
    mib.push_str(&format!("{row_type} ::= SEQUENCE {{\n{}\n}}\n\n", members.join(",\n")));
}

/// A group for each table, as it is called, of what is served of it; then the compliance that wants all of these and
/// says the rest by itself. Both stand below objects whose names begin with `prefix`.
fn push_conformance(
    mib: &mut String,
    prefix: &str,
    groups: &[(&TableSchema, String)],
    meaning: impl Fn(&TableSchema) -> String,
    (wanted, rest): (&str, &str),
) {
    for (table, group) in groups {
        let objects: Vec<&str> = table.served().map(|(_, column)| column.name).collect();
        push_group(mib, group, &objects, &meaning(table), &format!("{prefix}Groups {}", table.arc));
    }
    let groups: Vec<&str> = groups.iter().map(|(_, group)| group.as_str()).collect();
    mib.push_str(&format!("{prefix}Compliance MODULE-COMPLIANCE\n    STATUS      current\n"));
    push_description(mib, wanted);
    let groups = groups.join(",\n            ");
    mib.push_str(&format!("    MODULE\n        MANDATORY-GROUPS {{\n            {groups}\n        }}\n{rest}"));
    mib.push_str(&format!("    ::= {{ {prefix}Compliances 1 }}\n\n"));
}

fn push_group(mib: &mut String, name: &str, objects: &[&str], meaning: &str, place: &str) {
    let objects = objects.join(",\n        ");
    mib.push_str(&format!("{name} OBJECT-GROUP\n    OBJECTS {{\n        {objects}\n    }}\n    STATUS      current\n"));
    push_description(mib, meaning);
    mib.push_str(&format!("    ::= {{ {place} }}\n\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_modules_are_what_the_schema_gives() {
        for (name, text) in modules(None) {
            let path = format!("{}/../mibs/{name}", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(committed == text, "{path} is out of date: run `cargo xtask mib`");
        }
    }

    #[test]
    fn the_texts_are_plain_and_their_quotes_are_balanced() {
        for (_, mib) in modules(None) {
            assert!(mib.bytes().all(|octet| matches!(octet, b' '..=b'~' | b'\n')), "SMI modules are ASCII");
            assert_eq!(mib.matches('"').count() % 2, 0);
            for line in mib.lines() {
                assert!(line.len() <= WIDTH && line.trim_end() == line, "{line}");
            }
        }
    }
}
