//! A master agent's side of the protocol, written from RFC 2741 and not from the code under test.

/// A value as the master reads it: the number of its type, and its octets or arcs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    Number(u64),
    Octets(Vec<u8>),
    Arcs(Vec<u32>),
}

/// A variable binding: name, type, content.
pub(super) type Bound = (Vec<u32>, u16, Content);

/// A search range: start, whether it belongs to the range, end.
pub(super) type Range = (Vec<u32>, bool, Vec<u32>);

/// The header of a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) big: bool,
    pub(super) session: u32,
    pub(super) transaction: u32,
    pub(super) packet: u32,
}

/// What a master asks.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: u8,
    pub(super) big: bool,
    pub(super) session: u32,
    pub(super) context: Option<Vec<u8>>,
    /// What precedes the ranges: the two numbers of a GetBulk.
    pub(super) numbers: Vec<u16>,
    pub(super) ranges: Vec<Range>,
    pub(super) varbinds: Vec<Bound>,
}

impl Asked {
    pub(super) fn new(kind: u8, ranges: Vec<Range>) -> Self {
        let (numbers, varbinds) = (Vec::new(), Vec::new());
        Self { kind, big: false, session: super::SESSION, context: None, numbers, ranges, varbinds }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = Octets { octets: Vec::new(), big: self.big };
        if let Some(context) = &self.context {
            payload.string(context);
        }
        self.numbers.iter().for_each(|number| payload.u16(*number));
        for (start, include, end) in &self.ranges {
            payload.oid(start, *include, true);
            payload.oid(end, false, false);
        }
        self.varbinds.iter().for_each(|bound| payload.varbind(bound));
        let flags = if self.context.is_some() { 0x08 } else { 0 };
        pdu(self.big, self.kind, flags, [self.session, 77, 0x0a0b_0c0d], &payload.octets)
    }
}

/// The response to what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) header: Header,
    pub(super) error: u16,
    pub(super) index: u16,
    pub(super) varbinds: Vec<Bound>,
}

impl Answer {
    /// Of exactly these octets.
    pub(super) fn decode(pdu: &[u8]) -> Self {
        let (header, rest) = header(pdu);
        assert_eq!((header.kind, header.flags & !0x10, rest.len()), (18, 0, 0), "one response without flags");
        let mut fields = Fields { octets: &pdu[20..], big: header.big };
        assert_eq!(fields.u32(), 0, "sysUpTime is not the subagent's");
        let (error, index) = (fields.u16(), fields.u16());
        let mut varbinds = Vec::new();
        while !fields.octets.is_empty() {
            varbinds.push(fields.varbind());
        }
        Self { header, error, index, varbinds }
    }

    /// Names and types.
    pub(super) fn kinds(&self) -> Vec<(&[u32], u16)> {
        self.varbinds.iter().map(|(name, kind, _)| (&name[..], *kind)).collect()
    }
}

/// A response of the master to a request of the subagent.
pub(super) fn response(big: bool, session: u32, packet: u32, error: u16) -> Vec<u8> {
    let mut payload = Octets { octets: Vec::new(), big };
    payload.u32(123_456);
    payload.u16(error);
    payload.u16(0);
    pdu(big, 18, 0, [session, 0, packet], &payload.octets)
}

/// A PDU of session, transaction and packet.
pub(super) fn pdu(big: bool, kind: u8, flags: u8, numbers: [u32; 3], payload: &[u8]) -> Vec<u8> {
    let mut pdu = Octets { octets: vec![1, kind, flags | if big { 0x10 } else { 0 }, 0], big };
    numbers.iter().for_each(|number| pdu.u32(*number));
    pdu.u32(u32::try_from(payload.len()).unwrap());
    pdu.octets.extend(payload);
    pdu.octets
}

/// The header of the first PDU, and what is behind that PDU.
pub(super) fn header(octets: &[u8]) -> (Header, &[u8]) {
    let big = octets[2] & 0x10 != 0;
    let mut fields = Fields { octets: &octets[4..], big };
    let (session, transaction, packet) = (fields.u32(), fields.u32(), fields.u32());
    let length = fields.u32() as usize;
    assert_eq!((octets[0], octets[3], length % 4), (1, 0, 0));
    let header = Header { kind: octets[1], flags: octets[2], big, session, transaction, packet };
    (header, &octets[20 + length..])
}

/// Fields to send.
pub(super) struct Octets {
    pub(super) octets: Vec<u8>,
    pub(super) big: bool,
}

impl Octets {
    fn number(&mut self, number: u64, size: u32) {
        for place in 0..size {
            let shift = if self.big { size - 1 - place } else { place };
            self.octets.push(u8::try_from(number >> (8 * shift) & 0xff).unwrap());
        }
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.number(number.into(), 2);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.number(number.into(), 4);
    }

    pub(super) fn string(&mut self, octets: &[u8]) {
        self.u32(u32::try_from(octets.len()).unwrap());
        self.octets.extend(octets);
        while !self.octets.len().is_multiple_of(4) {
            self.octets.push(0);
        }
    }

    /// With the prefix only where it is wanted and possible.
    pub(super) fn oid(&mut self, arcs: &[u32], include: bool, prefix: bool) {
        let (prefix, rest) = match arcs {
            [1, 3, 6, 1, first, rest @ ..] if prefix && (1..=255).contains(first) => (*first, rest),
            _ => (0, arcs),
        };
        let count = u8::try_from(rest.len()).unwrap();
        self.octets.extend([count, u8::try_from(prefix).unwrap(), u8::from(include), 0]);
        rest.iter().for_each(|arc| self.u32(*arc));
    }

    pub(super) fn varbind(&mut self, (name, kind, content): &Bound) {
        self.u16(*kind);
        self.u16(0);
        self.oid(name, false, true);
        match content {
            Content::Nothing => {}
            Content::Number(number) => self.number(*number, if *kind == 70 { 8 } else { 4 }),
            Content::Octets(octets) => self.string(octets),
            Content::Arcs(arcs) => self.oid(arcs, false, false),
        }
    }
}

/// Fields that were received.
pub(super) struct Fields<'a> {
    pub(super) octets: &'a [u8],
    pub(super) big: bool,
}

impl Fields<'_> {
    fn number(&mut self, size: usize) -> u64 {
        let (octets, rest) = self.octets.split_at(size);
        self.octets = rest;
        let join = |number: u64, octet: &u8| number << 8 | u64::from(*octet);
        if self.big { octets.iter().fold(0, join) } else { octets.iter().rev().fold(0, join) }
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::try_from(self.number(2)).unwrap()
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::try_from(self.number(4)).unwrap()
    }

    pub(super) fn string(&mut self) -> Vec<u8> {
        let length = self.u32() as usize;
        let (octets, rest) = self.octets.split_at(length.div_ceil(4) * 4);
        assert!(octets[length..].iter().all(|octet| *octet == 0), "padding is not zero");
        self.octets = rest;
        octets[..length].to_vec()
    }

    /// Arcs and include.
    pub(super) fn oid(&mut self) -> (Vec<u32>, bool) {
        let [count, prefix, include, reserved] = [(); 4].map(|()| self.number(1));
        assert_eq!(reserved, 0);
        let mut arcs = match prefix {
            0 => vec![],
            prefix => vec![1, 3, 6, 1, u32::try_from(prefix).unwrap()],
        };
        arcs.extend((0..count).map(|_| self.u32()).collect::<Vec<u32>>());
        assert!(arcs.len() <= 128);
        (arcs, include != 0)
    }

    pub(super) fn varbind(&mut self) -> Bound {
        let (kind, reserved) = (self.u16(), self.u16());
        assert_eq!(reserved, 0);
        let (name, include) = self.oid();
        assert!(!include, "the name of a variable binding includes nothing");
        let content = match kind {
            2 | 65..=67 => Content::Number(self.number(4)),
            70 => Content::Number(self.number(8)),
            4 | 64 | 68 => Content::Octets(self.string()),
            6 => Content::Arcs(self.oid().0),
            5 | 128..=130 => Content::Nothing,
            other => panic!("type {other}"),
        };
        (name, kind, content)
    }
}
