//! EXCELIANCE-MIB.
//!
//! Names, OIDs and syntaxes are those that agents and managers of HAProxy Enterprise and ALOHA have used since 2016;
//! the words are ours.

use super::{push_conformance, push_group, push_indexed, push_object, push_row_type, syntax};
use crate::schema::{self, Column, Syntax, TableSchema};

const TABLES: [&TableSchema; 4] = [&schema::PROCESS, &schema::FRONTEND, &schema::BACKEND, &schema::SERVER];

/// The text of the module EXCELIANCE-MIB (SMIv2, RFC 2578 to 2580): lbStats, the notifications, and the group of
/// product names that managers look for.
pub fn exceliance() -> String {
    let mut mib = HEAD.to_owned();
    product_names(&mut mib);
    for table in TABLES {
        push_table(&mut mib, table);
    }
    mib.push_str(NOTIFICATIONS);
    conformance(&mut mib);
    mib.push_str("END\n");
    mib
}

const HEAD: &str = r#"-- Generated from the schema of lbstatd by `cargo xtask mib`.

EXCELIANCE-MIB DEFINITIONS ::= BEGIN

IMPORTS
    MODULE-IDENTITY, OBJECT-TYPE, NOTIFICATION-TYPE,
    enterprises, Counter32, Counter64
        FROM SNMPv2-SMI
    DisplayString
        FROM SNMPv2-TC
    MODULE-COMPLIANCE, OBJECT-GROUP, NOTIFICATION-GROUP
        FROM SNMPv2-CONF;

exceliance MODULE-IDENTITY
    LAST-UPDATED "202606010000Z"
    ORGANIZATION "Exceliance, now HAProxy Technologies"
    CONTACT-INFO
        "The objects were assigned by HAProxy Technologies, www.haproxy.com.
        This text belongs to lbstatd, which serves them: write to that project
        about it."
    DESCRIPTION
        "Statistics of the HAProxy load balancer: its processes, frontends,
        backends and servers. A number that HAProxy does not have is sent as
        0 (as 1 for lbProcessNbProc and for the identifier of a process), a
        text that it does not have as an empty string. Where a number exceeds
        the range of an INTEGER, the largest that fits is sent."
    REVISION "202606010000Z"
    DESCRIPTION
        "Written anew: what each object counts, in which unit, and where
        HAProxy shows it. Names, identifiers and syntaxes are as before."
    REVISION "201606010001Z"
    DESCRIPTION
        "As published for HAProxy Enterprise and ALOHA."
    ::= { enterprises 23263 }

eTrapsObjects OBJECT IDENTIFIER ::= { exceliance 2 }
eTraps        OBJECT IDENTIFIER ::= { exceliance 3 }
products      OBJECT IDENTIFIER ::= { exceliance 4 }

aloha         OBJECT IDENTIFIER ::= { products 2 }
alcompat1     OBJECT IDENTIFIER ::= { aloha 1 }
alProductInfo OBJECT IDENTIFIER ::= { alcompat1 1 }
algroups      OBJECT IDENTIFIER ::= { aloha 2 }

hapee         OBJECT IDENTIFIER ::= { products 3 }
lbcompat1     OBJECT IDENTIFIER ::= { hapee 1 }
lbProductInfo OBJECT IDENTIFIER ::= { lbcompat1 1 }
lbStats       OBJECT IDENTIFIER ::= { lbcompat1 3 }
lbGroups      OBJECT IDENTIFIER ::= { hapee 2 }
lbCompliances OBJECT IDENTIFIER ::= { hapee 3 }

"#;

/// The scalars of the ALOHA product group, by ascending arc from 1.
const PRODUCT: [(&str, &str); 7] = [
    ("alProductName", "Name of the product."),
    ("alProductModel", "Model of the product."),
    ("alProductVersion", "Version of the product, as its release series."),
    ("alProductSubVersion", "Version within the release series."),
    ("alProductBuildVersion", "Number of the build."),
    ("alProductBuildDate", "Date of the build."),
    ("alProductURL", "Address of the product's page on the web."),
];

fn product_names(mib: &mut String) {
    for (place, (name, meaning)) in PRODUCT.iter().enumerate() {
        push_object(mib, name, syntax(Syntax::Text), "read-only", meaning, &format!("alProductInfo {}", place + 1));
    }
}

fn push_table(mib: &mut String, table: &TableSchema) {
    let name = table.name;
    let entry = format!("{name}Entry");
    let row_type = format!("L{}", &entry[1..]);
    let index: Vec<&str> = table.columns[..table.index].iter().map(|column| column.name).collect();
    let arc = table.arc;

    let meaning = format!("One row for each {}.", table.row.trim_start_matches("a "));
    push_object(mib, name, &format!("SEQUENCE OF {row_type}"), "not-accessible", &meaning, &format!("lbStats {arc}"));

    let meaning = format!("What HAProxy says about {}.", table.row);
    let place = format!("{name} 1");
    let index = format!("    INDEX       {{ {} }}\n", index.join(", "));
    push_indexed(mib, &entry, &row_type, "not-accessible", &meaning, &index, &place);

    push_row_type(mib, &row_type, table);

    let source = if std::ptr::eq(table, &schema::PROCESS) { "show info" } else { "show stat" };
    for column in table.mib_columns() {
        let arc = column.arc.expect("a column of the MIB has an arc");
        let place = format!("{entry} {arc}");
        push_object(mib, column.name, syntax(column.syntax), "read-only", &meaning_of(column, source), &place);
    }
}

fn meaning_of(column: &Column, source: &str) -> String {
    format!("{}. HAProxy: {} in '{source}'.", column.help, column.source)
}

const NOTIFICATIONS: &str = r#"eNotificationMsg NOTIFICATION-TYPE
    STATUS      current
    DESCRIPTION
        "Something happened that has no notification of its own. lbstatd sends
        it with alTrapMsg, when it is told to test its receivers."
    ::= { eTraps 1001 }

alTrap NOTIFICATION-TYPE
    OBJECTS     { alTrapId, alTrapMsg, alTrapName }
    STATUS      current
    DESCRIPTION
        "A server, frontend, backend or the traffic of a frontend changed its
        state, and the new state has held for a while. Nothing is sent about
        states that were so already when the agent was started."
    ::= { eTraps 1002 }

alTrapId OBJECT-TYPE
    SYNTAX      INTEGER {
        vrrpmaster(101), vrrpbackup(102), vrrpfault(103),
        serverdown(201), frontendfull(202), backenddown(203),
        serverup(211), frontendopen(212), backendup(213),
        l4serverdown(301), l4directordown(302),
        l4serverup(311), l4directorup(312),
        synfloodoff(401), ackrstfloodoff(402), unknownttloff(403),
        surgeoff(404),
        synfloodon(411), ackrstfloodon(412), unknownttlon(413),
        surgeon(414)
    }
    MAX-ACCESS  accessible-for-notify
    STATUS      current
    DESCRIPTION
        "What happened.
        serverdown, serverup: the health checks of a server failed, or
        succeed again. Maintenance is neither.
        backenddown, backendup: a backend has no server left that takes
        requests, or has one again.
        frontendfull, frontendopen: a frontend has as many sessions as it may
        have, or clearly fewer again.
        surgeon, surgeoff: the accept queue of a frontend's listeners is
        nearly full or has overflowed, or has been well below that for a
        while.
        synfloodon, synfloodoff: connections to a frontend are begun and not
        completed at a high rate, or no longer so.
        lbstatd sends no others."
    ::= { eTrapsObjects 1 }

alTrapMsg OBJECT-TYPE
    SYNTAX      DisplayString (SIZE (0..255))
    MAX-ACCESS  read-only
    STATUS      current
    DESCRIPTION
        "What happened, in words."
    ::= { eTrapsObjects 2 }

alTrapName OBJECT-TYPE
    SYNTAX      DisplayString (SIZE (0..255))
    MAX-ACCESS  read-only
    STATUS      current
    DESCRIPTION
        "What it happened to: name of the frontend or backend, or of the
        backend and the server with a slash between them; the address of a
        listener whose frontend is not known."
    ::= { eTrapsObjects 3 }

alTrapNotifGroup NOTIFICATION-GROUP
    NOTIFICATIONS { eNotificationMsg, alTrap }
    STATUS      current
    DESCRIPTION
        "The notifications."
    ::= { algroups 1 }

"#;

fn conformance(mib: &mut String) {
    push_group(mib, "alTrapGroup", &["alTrapId", "alTrapMsg", "alTrapName"], "What notifications carry.", "algroups 2");
    let names = PRODUCT.map(|(name, _)| name);
    push_group(mib, "alProductGroup", &names, "What the product is called.", "algroups 3");
    let groups = TABLES.map(|table| (table, format!("{}Group", table.name.trim_end_matches("Table"))));
    let meaning = |table: &TableSchema| format!("The columns of {}.", table.name);
    push_conformance(mib, "lb", &groups, meaning, ("What an agent for HAProxy has to serve.", OPTIONAL_GROUPS));
}

const OPTIONAL_GROUPS: &str = r#"        GROUP alTrapGroup
        DESCRIPTION
            "For agents that send notifications."
        GROUP alTrapNotifGroup
        DESCRIPTION
            "For agents that send notifications."
        GROUP alProductGroup
        DESCRIPTION
            "For agents that managers shall take for an ALOHA."
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_stands_there_once() {
        let mib = exceliance();
        let columns = TABLES.iter().flat_map(|table| table.mib_columns()).map(|column| column.name);
        for name in columns.chain(PRODUCT.map(|(name, _)| name)).chain(TABLES.map(|table| table.name)) {
            assert_eq!(mib.matches(&format!("\n{name} OBJECT-TYPE\n")).count(), 1, "{name}");
        }
    }
}
