//! Where the tables grow: each branch is a table under the OID of its entry, or a group of scalars, which is the first
//! row of a table under the index 0. Another subtree is another branch.

use lbstats::schema::{self, ALOHA_PRODUCT, ALOHA_ROOT, ALOHA_SCALARS, LBSTATD_ROOT, LBSTATS_ROOTS, TableSchema};
use lbstats::{Oid, Snapshot, Table};

/// The subtrees that views of one agent show, in the order of their OIDs.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree {
    /// All branches.
    branches: Vec<Branch>,
    /// Those without lbStats.
    own: Vec<Branch>,
    /// Under which all of them grow.
    roots: Vec<Oid>,
}

/// Why a tree cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The root of LBSTATD-MIB is where another subtree grows, or around it, or above all of them.
    #[error("the root {0} of LBSTATD-MIB overlaps that of another subtree: choose another root")]
    Overlap(Oid),
    /// The root of LBSTATD-MIB is no OID under which a row's OID is one.
    #[error("the root {0} of LBSTATD-MIB must have 2 to 24 arcs and begin with 0, 1 or 2: choose another root")]
    Root(Oid),
}

/// A table in the tree: its cells are entry.column.index.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) entry: Oid,
    pub(crate) table: TableOf,
    /// Arc and place in the table of each column, arcs ascending.
    pub(crate) columns: Vec<(u32, usize)>,
    /// Whether it shows the first row only, under the index 0.
    pub(crate) scalars: bool,
}

pub(crate) type TableOf = fn(&Snapshot) -> &Table;

/// The tables of LBSTATD-MIB, by ascending arc.
const OWN: [TableOf; 8] = [
    |snapshot| &snapshot.listeners,
    |snapshot| &snapshot.kernel_frontends,
    |snapshot| &snapshot.kernel_servers,
    |snapshot| &snapshot.daemon()[0],
    |snapshot| &snapshot.daemon()[1],
    |snapshot| &snapshot.daemon()[2],
    |snapshot| &snapshot.daemon()[3],
    |snapshot| &snapshot.daemon()[4],
];

/// The longest root: below it come 1.table.1.column and an index of at most 65 arcs.
const LONGEST_ROOT: usize = 24;

/// lbStats under both of its roots, and LBSTATD-MIB under its usual one.
impl Default for Tree {
    fn default() -> Self {
        Self::new(false, LBSTATD_ROOT).expect("the usual roots are apart")
    }
}

impl Tree {
    /// lbStats under both of its roots; with `aloha`, its twin in the ALOHA branch and the product's name as well; and
    /// LBSTATD-MIB under this root.
    ///
    /// # Errors
    /// When `root` does not fit.
    pub fn new(aloha: bool, root: &[u32]) -> Result<Self, TreeError> {
        if !(2..=LONGEST_ROOT).contains(&root.len()) || root[0] > 2 {
            return Err(TreeError::Root(Oid::from(root)));
        }
        let mut own_root = Oid::from(root);
        own_root.extend(&[1]);
        let tables = LBSTATS_ROOTS.into_iter().chain(aloha.then_some(ALOHA_ROOT));
        let lbstats = tables.clone().flat_map(lbstats_under).chain(aloha.then(product));
        let own = own_under(&own_root);
        let branches = ordered(lbstats.chain(own.iter().cloned()));
        let mut others = branches.iter().map(|branch| &branch.entry).filter(|entry| !entry.starts_with(&own_root));
        if others.any(|entry| entry.starts_with(root) || root.starts_with(entry)) || !apart(&branches) {
            return Err(TreeError::Overlap(Oid::from(root)));
        }
        let roots = tables.chain(aloha.then_some(ALOHA_PRODUCT)).chain([root]).map(Oid::from).collect();
        Ok(Self { branches, own: ordered(own.into_iter()), roots })
    }

    /// The subtrees that hold every branch, which is what a subagent registers.
    pub fn roots(&self) -> &[Oid] {
        &self.roots
    }

    pub(crate) fn branches(&self, stale: bool) -> &[Branch] {
        if stale { &self.own } else { &self.branches }
    }
}

/// A branch is told from another by where it grows.
impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
    }
}

impl Eq for Branch {}

fn lbstats_under(root: &[u32]) -> [Branch; 4] {
    let tables: [(&TableSchema, TableOf); 4] = [
        (&schema::PROCESS, |snapshot| &snapshot.processes),
        (&schema::FRONTEND, |snapshot| &snapshot.frontends),
        (&schema::BACKEND, |snapshot| &snapshot.backends),
        (&schema::SERVER, |snapshot| &snapshot.servers),
    ];
    tables.map(|(schema, table)| branch(root, schema, table))
}

fn own_under(root: &[u32]) -> Vec<Branch> {
    let schemas = schema::TABLES.into_iter().filter(|schema| schema.module == schema::Module::Lbstatd);
    schemas.zip(OWN).map(|(schema, table)| branch(root, schema, table)).collect()
}

fn branch(root: &[u32], schema: &TableSchema, table: TableOf) -> Branch {
    let mut entry = Oid::from(root);
    entry.extend(&[schema.arc]);
    let scalars = schema.index == 0;
    if !scalars {
        entry.extend(&[1]);
    }
    let columns = schema.served().filter_map(|(place, column)| Some((column.arc?, place))).collect();
    Branch { entry, table, columns, scalars }
}

/// The scalars of the ALOHA product group.
fn product() -> Branch {
    let place = |source| schema::PROCESS.place(source).expect("scalars come from columns of the process");
    Branch {
        entry: Oid::from(ALOHA_PRODUCT),
        table: |snapshot| &snapshot.processes,
        columns: ALOHA_SCALARS.iter().map(|(arc, source)| (*arc, place(source))).collect(),
        scalars: true,
    }
}

fn ordered(branches: impl Iterator<Item = Branch>) -> Vec<Branch> {
    let mut branches: Vec<Branch> = branches.collect();
    branches.sort_by(|a, b| a.entry.cmp(&b.entry));
    branches
}

/// Whether no branch grows on another.
fn apart(branches: &[Branch]) -> bool {
    branches.windows(2).all(|pair| !pair[1].entry.starts_with(&pair[0].entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tables_are_those_of_the_schema() {
        let snapshot = Snapshot::empty();
        for branch in own_under(&[1, 3]) {
            let schema = (branch.table)(&snapshot).schema();
            assert_eq!(branch.entry[2], schema.arc, "{}", schema.name);
        }
        assert_eq!(own_under(&[1, 3]).len(), OWN.len());
    }

    #[test]
    fn roots_that_do_not_fit_are_refused() {
        let tree = |root: &str| Tree::new(false, &root.parse::<Oid>().unwrap()).map(|_| ());
        let oid = |text: &str| text.parse::<Oid>().unwrap();
        assert_eq!(tree("1.3.6.1.4.1.99999.1"), Ok(()));
        for root in
            ["1.3.6.1.4.1", "1.3.6.1.4.1.23263", "1.3.6.1.4.1.23263.4.3.1.3.1.1", "1.3.6.1.4.1.58750.4.3.1.3.2.1.5"]
        {
            assert_eq!(tree(root), Err(TreeError::Overlap(oid(root))));
        }
        for root in ["1", "3.1", &format!("1{}", ".1".repeat(24))] {
            assert_eq!(tree(root), Err(TreeError::Root(oid(root))));
        }
        let aloha = oid("1.3.6.1.4.1.23263.4.2");
        assert_eq!(Tree::new(false, &aloha).map(|_| ()), Ok(()));
        assert_eq!(Tree::new(true, &aloha), Err(TreeError::Overlap(aloha)));
    }
}
