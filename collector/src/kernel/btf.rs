//! Finds where the running kernel keeps a field, in the type information it publishes about itself.
//!
//! Format: the kernel's Documentation/bpf/btf.rst. Only what is asked for here is understood: members of structures and
//! unions, sizes, and values of enumerations. The bytes come from the kernel, yet are read like any foreign input:
//! every length is checked, and every walk is bounded.

use std::collections::HashMap;

use thiserror::Error;

/// Type information of one kernel, borrowed from the bytes of `/sys/kernel/btf/vmlinux`.
pub(crate) struct Btf<'a> {
    /// The type section.
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; type ids count from 1.
    starts: Vec<usize>,
    /// Ids of named structures, unions and enumerations.
    named: HashMap<&'a [u8], u32>,
}

/// Why a field was not found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The bytes are no type information, or damaged.
    #[error("the type information is damaged: {0}")]
    Malformed(&'static str),
    /// The kernel has no such type.
    #[error("the kernel has no type {0}")]
    NoType(String),
    /// The type has no such member.
    #[error("the kernel's {0} has no member {1}")]
    NoMember(String, String),
    /// The member has another size than expected, or is a bit field.
    #[error("the kernel's {0}.{1} is not a field of {2} bytes")]
    WrongSize(String, String, u32),
}

impl<'a> Btf<'a> {
    /// Takes the bytes apart into types.
    ///
    /// # Errors
    /// [`BtfError::Malformed`].
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::Malformed("it does not begin with the magic number"));
        }
        let header = |at| word(bytes, at).ok_or(BtfError::Malformed("the header is cut short"));
        let body = bytes.get(header(4)? as usize..).ok_or(BtfError::Malformed("the header is cut short"))?;
        let section = |at: u32, length: u32| {
            let at = at as usize;
            at.checked_add(length as usize).and_then(|end| body.get(at..end))
        };
        let types = section(header(8)?, header(12)?).ok_or(BtfError::Malformed("the types lie outside the file"))?;
        let strings = section(header(16)?, header(20)?).ok_or(BtfError::Malformed("the names lie outside the file"))?;
        let mut btf = Self { types, strings, starts: Vec::new(), named: HashMap::new() };
        btf.index()?;
        Ok(btf)
    }

    /// Where a member of a structure or union begins, in bytes, by its dotted path. Members of anonymous structures and
    /// unions count as members of what encloses them, as in C.
    ///
    /// # Errors
    /// [`BtfError::NoType`], [`BtfError::NoMember`]; [`BtfError::WrongSize`] for a bit field, or if the member's size is
    /// not `size`.
    pub(crate) fn member(&self, structure: &str, path: &str, size: u32) -> Result<u32, BtfError> {
        let (bits, id) = self.locate(structure, path)?;
        if bits % 8 != 0 || self.size(id) != Some(size) {
            return Err(BtfError::WrongSize(structure.to_owned(), path.to_owned(), size));
        }
        Ok(bits / 8)
    }

    /// Where a member begins, in bytes, whatever its size: an array without bounds has none.
    ///
    /// # Errors
    /// As [`Btf::member`].
    pub(crate) fn place(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        self.locate(structure, path).map(|(bits, _)| bits / 8)
    }

    /// Size of a structure in bytes.
    ///
    /// # Errors
    /// [`BtfError::NoType`].
    pub(crate) fn size_of(&self, structure: &str) -> Result<u32, BtfError> {
        self.size(self.id(structure)?).ok_or_else(|| BtfError::NoType(structure.to_owned()))
    }

    /// Offset in bits and type of a member.
    fn locate(&self, structure: &str, path: &str) -> Result<(u32, u32), BtfError> {
        let no_member = || BtfError::NoMember(structure.to_owned(), path.to_owned());
        let mut id = self.id(structure)?;
        let (mut bits, mut steps) = (0_u32, MAX_STEPS);
        for name in path.split('.') {
            let (offset, of) = self.find(id, name.as_bytes(), &mut steps, 0).ok_or_else(no_member)?;
            bits = bits.checked_add(offset).ok_or_else(no_member)?;
            id = of;
        }
        Ok((bits, id))
    }

    /// The value of an enumerator.
    ///
    /// # Errors
    /// [`BtfError::NoType`], [`BtfError::NoMember`].
    pub(crate) fn enumerator(&self, enumeration: &str, name: &str) -> Result<u32, BtfError> {
        let ty = self.ty(self.id(enumeration)?).ok_or_else(|| BtfError::NoType(enumeration.to_owned()))?;
        (0..ty.count)
            .filter(|_| ty.kind == KIND_ENUM)
            .map(|n| ty.body + n * 8)
            .find(|&at| word(self.types, at).is_some_and(|offset| self.name(offset) == Some(name.as_bytes())))
            .and_then(|at| word(self.types, at + 4))
            .ok_or_else(|| BtfError::NoMember(enumeration.to_owned(), name.to_owned()))
    }

    /// How many parameters a function takes.
    ///
    /// # Errors
    /// [`BtfError::NoType`].
    pub(crate) fn parameters(&self, function: &str) -> Result<u32, BtfError> {
        let prototype = |&start: &usize| {
            let ty = self.ty_at(start).filter(|ty| ty.kind == KIND_FUNC)?;
            (self.name(ty.name) == Some(function.as_bytes())).then_some(ty.size)
        };
        self.starts
            .iter()
            .find_map(prototype)
            .and_then(|id| self.ty(id))
            .filter(|ty| ty.kind == KIND_FUNC_PROTO)
            .and_then(|ty| u32::try_from(ty.count).ok())
            .ok_or_else(|| BtfError::NoType(function.to_owned()))
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let ty = self.ty_at(at).ok_or(BtfError::Malformed("a type is cut short"))?;
            let length = body_length(&ty).ok_or(BtfError::Malformed("a type is of an unknown kind"))?;
            self.starts.push(at);
            let id = u32::try_from(self.starts.len()).map_err(|_| BtfError::Malformed("it has too many types"))?;
            if matches!(ty.kind, KIND_STRUCT | KIND_UNION | KIND_ENUM)
                && let Some(name) = self.name(ty.name).filter(|name| !name.is_empty())
            {
                self.named.entry(name).or_insert(id);
            }
            at = ty.body + length;
        }
        if at > self.types.len() {
            return Err(BtfError::Malformed("the last type is cut short"));
        }
        Ok(())
    }

    fn id(&self, name: &str) -> Result<u32, BtfError> {
        self.named.get(name.as_bytes()).copied().ok_or_else(|| BtfError::NoType(name.to_owned()))
    }

    /// Offset in bits and type of a member. `steps` bounds the work, `depth` the nesting.
    fn find(&self, id: u32, name: &[u8], steps: &mut u32, depth: u32) -> Option<(u32, u32)> {
        let ty = self.ty(self.resolve(id)?)?;
        if !matches!(ty.kind, KIND_STRUCT | KIND_UNION) || depth > MAX_DEPTH {
            return None;
        }
        for n in 0..ty.count {
            *steps = steps.checked_sub(1)?;
            let at = ty.body + n * 12;
            let (member, of, offset) = (word(self.types, at)?, word(self.types, at + 4)?, word(self.types, at + 8)?);
            // With the flag set the offset shares its word with the width of a bit field, which is not 0 then.
            let (offset, width) = if ty.flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            let found = match self.name(member)? {
                own if own == name => (width == 0).then_some((0, of)),
                b"" => self.find(of, name, steps, depth + 1),
                _ => continue,
            };
            if let Some((inner, of)) = found {
                return Some((offset.checked_add(inner)?, of));
            }
        }
        None
    }

    /// Size of a type in bytes.
    fn size(&self, id: u32) -> Option<u32> {
        let ty = self.ty(self.resolve(id)?)?;
        match ty.kind {
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 => Some(ty.size),
            KIND_POINTER => Some(8),
            KIND_ARRAY => {
                let (of, count) = (word(self.types, ty.body)?, word(self.types, ty.body + 8)?);
                // No field that is read here is an array of arrays.
                let of = self.ty(self.resolve(of)?).filter(|ty| ty.kind == KIND_INT)?;
                of.size.checked_mul(count)
            }
            _ => None,
        }
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let ty = self.ty(id)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => id = ty.size,
                _ => return Some(id),
            }
        }
        None
    }

    fn ty(&self, id: u32) -> Option<Type> {
        self.ty_at(*self.starts.get((id as usize).checked_sub(1)?)?)
    }

    fn ty_at(&self, at: usize) -> Option<Type> {
        let (name, info, size) = (word(self.types, at)?, word(self.types, at + 4)?, word(self.types, at + 8)?);
        Some(Type {
            name,
            kind: (info >> 24) & 0x1f,
            flag: info >> 31 == 1,
            count: (info & 0xffff) as usize,
            size,
            body: at + 12,
        })
    }

    fn name(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        rest.iter().position(|&byte| byte == 0).map(|end| &rest[..end])
    }
}

const MAGIC: u16 = 0xeb9f;
/// Bound on typedef chains and on nested anonymous members; real ones stay under 10.
const MAX_DEPTH: u32 = 32;
/// Bound on the members looked at for one name; the largest kernel structures have some hundreds.
const MAX_STEPS: u32 = 100_000;

const KIND_INT: u32 = 1;
const KIND_POINTER: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// The 12 bytes that every type begins with.
struct Type {
    name: u32,
    kind: u32,
    flag: bool,
    /// How many members, enumerators or parameters follow.
    count: usize,
    /// The size, or for pointers and the like the id of another type.
    size: u32,
    /// Where what follows begins.
    body: usize,
}

/// How many bytes follow the first 12.
fn body_length(ty: &Type) -> Option<usize> {
    Some(match ty.kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        // Pointer, forward, typedef, volatile, const, restrict, func, float, type tag.
        KIND_POINTER | 7..=12 | 16 | KIND_TYPE_TAG => 0,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => ty.count * 12,
        KIND_ENUM | KIND_FUNC_PROTO => ty.count * 8,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_ne_bytes(bytes.get(at..end)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// int u32; enum color { RED, GREEN }; struct inner { u32 x; u32 y }; typedef inner_t;
    /// struct outer { u32 a; union { u32 b; inner_t c; }; u32 bit:3; outer *next }.
    fn sample() -> Vec<u8> {
        let mut strings = vec![0];
        let mut name = |text: &str| {
            let at = u32::try_from(strings.len()).unwrap();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let info = |kind: u32, count: u32| kind << 24 | count;
        let flag = 1 << 31;
        #[rustfmt::skip]
        let types: Vec<u32> = vec![
            name("u32"), info(KIND_INT, 0), 4, 32,                                        // 1
            name("color"), info(KIND_ENUM, 2), 4, name("RED"), 0, name("GREEN"), 7,       // 2
            name("inner"), info(KIND_STRUCT, 2), 8, name("x"), 1, 0, name("y"), 1, 32,    // 3
            name("inner_t"), info(KIND_TYPEDEF, 0), 3,                                    // 4
            0, info(KIND_UNION, 2), 8, name("b"), 1, 0, name("c"), 4, 0,                  // 5
            name("outer"), info(KIND_STRUCT, 4) | flag, 24,                               // 6
            name("a"), 1, 0, 0, 5, 32, name("bit"), 1, 3 << 24 | 96, name("next"), 7, 128,
            0, info(KIND_POINTER, 0), 6,                                                  // 7
            0, info(KIND_ARRAY, 0), 0, 1, 1, 5,                                           // 8
            name("named"), info(KIND_STRUCT, 1), 20, name("list"), 8, 0,                  // 9
            0, info(KIND_FUNC_PROTO, 2), 0, name("a"), 1, 0, 7,                           // 10
            name("call"), info(KIND_FUNC, 0), 10,                                         // 11
        ];
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        let types_length = u32::try_from(types.len() * 4).unwrap();
        let strings_length = u32::try_from(strings.len()).unwrap();
        for word in [24, 0, types_length, types_length, strings_length].into_iter().chain(types) {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_anonymous_ones_typedefs_and_dots() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        let offset = |path, size| btf.member("outer", path, size);
        assert_eq!(offset("a", 4), Ok(0));
        assert_eq!(offset("b", 4), Ok(4));
        assert_eq!(offset("c.y", 4), Ok(8));
        assert_eq!(offset("c", 8), Ok(4));
        assert_eq!(offset("next", 8), Ok(16));
        assert_eq!(btf.enumerator("color", "GREEN"), Ok(7));
        assert_eq!(btf.member("named", "list", 20), Ok(0));
        assert_eq!((btf.place("outer", "c.y"), btf.size_of("outer")), (Ok(8), Ok(24)));
        assert_eq!(btf.parameters("call"), Ok(2));
        assert!(btf.parameters("outer").is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        let error = |result: Result<u32, BtfError>| result.unwrap_err().to_string();
        assert_eq!(error(btf.member("nothing", "a", 4)), "the kernel has no type nothing");
        assert_eq!(error(btf.member("outer", "z", 4)), "the kernel's outer has no member z");
        assert_eq!(error(btf.member("outer", "c.z", 4)), "the kernel's outer has no member c.z");
        assert_eq!(error(btf.member("outer", "a", 8)), "the kernel's outer.a is not a field of 8 bytes");
        assert_eq!(error(btf.member("outer", "bit", 4)), "the kernel's outer has no member bit");
        assert_eq!(btf.enumerator("color", "BLUE").unwrap_err().to_string(), "the kernel's color has no member BLUE");
        assert!(Btf::parse(b"ELF").is_err());
    }

    #[test]
    fn every_cut_is_an_error_or_a_smaller_file() {
        let bytes = sample();
        for length in 0..bytes.len() {
            if let Ok(btf) = Btf::parse(&bytes[..length]) {
                let _ = btf.member("outer", "c.y", 4);
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(position in 24_usize..200, value: u32, more in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = sample();
            let at = position.min(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            if let Ok(btf) = Btf::parse(&bytes) {
                let _ = btf.member("outer", "c.y", 4);
                let _ = btf.member("outer", "next.next", 8);
                let _ = btf.enumerator("color", "GREEN");
                let _ = btf.enumerator("outer", "GREEN");
            }
            let mut headed = sample()[..24].to_vec();
            headed.extend(&more);
            let _ = Btf::parse(&headed).map(|btf| btf.member("outer", "c.y", 4));
            let _ = Btf::parse(&more);
        }
    }
}
