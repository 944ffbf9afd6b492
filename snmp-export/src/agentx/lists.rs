//! The lists that PDUs carry, read one element at a time without a copy.

use lbstats::Oid;

use super::value::{Data, read_varbind, write_varbind};
use super::wire::{Malformed, Reader, Writer};

/// A list of search ranges (RFC 2741 section 5.2), read one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges<'a>(Reader<'a>);

impl<'a> Ranges<'a> {
    pub(super) fn rest_of(reader: &mut Reader<'a>) -> Self {
        Self(reader.rest())
    }

    /// Reads the next range into `start` and `end`, which is empty for a range without an end; whether the start
    /// belongs to it. None at the end of the list.
    ///
    /// # Errors
    /// As [`Malformed`] says.
    pub fn next(&mut self, start: &mut Oid, end: &mut Oid) -> Result<Option<bool>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let include = self.0.oid(start)?;
        self.0.oid(end)?;
        Ok(Some(include))
    }

    pub(super) fn write(mut self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let (mut start, mut end) = (Oid::default(), Oid::default());
        while let Some(include) = self.next(&mut start, &mut end)? {
            writer.oid(&start, include);
            writer.oid(&end, false);
        }
        Ok(())
    }
}

/// A list of variable bindings (RFC 2741 section 5.4), read one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Varbinds<'a>(Reader<'a>);

impl<'a> Varbinds<'a> {
    pub(super) fn rest_of(reader: &mut Reader<'a>) -> Self {
        Self(reader.rest())
    }

    /// Reads the next one, its name into `name`. None at the end of the list.
    ///
    /// # Errors
    /// As [`Malformed`] says.
    pub fn next(&mut self, name: &mut Oid) -> Result<Option<Data<'a>>, Malformed> {
        if self.0.is_empty() { Ok(None) } else { read_varbind(&mut self.0, name).map(Some) }
    }

    pub(super) fn write(mut self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let mut name = Oid::default();
        while let Some(data) = self.next(&mut name)? {
            write_varbind(writer, &name, &data);
        }
        Ok(())
    }
}
