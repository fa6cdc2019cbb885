// SPDX-License-Identifier: GPL-2.0

use super::edit::retain;
use super::edit::set_payload;
use super::walk::walk_all;
use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// As in a volume index of 0.25 GiB.
const VOLUME: Code = Code::new(4080, 10);

/// Short codes with long rows of zeroes.
const TOY: Code = Code::new(20, 3);

fn name(text: &str) -> Name {
    let digit = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    Name(core::array::from_fn(digit))
}

/// The bits of a list from the first bit of the bytes on.
#[derive(Clone, Debug, Default)]
struct Bits {
    data: Vec<u8>,
    len: usize,
}

impl Bits {
    fn list(&self) -> List<'_> {
        List::new(&self.data, 0, self.len).unwrap()
    }

    fn splice(&mut self, code: &Code, splice: Splice) {
        let after = splice.bits_after(code, self.len);
        self.data.resize(after.max(self.len).div_ceil(8), 0xa5);
        splice.apply(code, &mut self.data, self.len);
        self.len = after;
    }

    fn insert(&mut self, code: &Code, address: u32, payload: u32, name: &Name) {
        let list = self.list();
        let search = list.search(code, address, name).unwrap();
        let splice = Splice::insert(code, &list, &search, address, payload, name).unwrap();
        self.splice(code, splice);
    }

    fn remove(&mut self, code: &Code, address: u32, name: &Name) {
        let list = self.list();
        let search = list.search(code, address, name).unwrap();
        if search.found != Found::Nothing {
            let splice = Splice::remove(code, &list, search.at).unwrap();
            self.splice(code, splice);
        }
    }
}

/// Names with one address, in the order of a list: the payload and name of each.
type Equals = Vec<(u32, Name)>;

/// What a list should hold, in the order of addresses.
#[derive(Clone, Debug, Default)]
struct Model(Vec<(u32, Equals)>);

impl Model {
    fn insert(&mut self, address: u32, payload: u32, name: Name) {
        match self
            .0
            .binary_search_by_key(&address, |&(address, _)| address)
        {
            Ok(at) => self.0[at].1.insert(1, (payload, name)),
            Err(at) => self.0.insert(at, (address, vec![(payload, name)])),
        }
    }

    fn equals(&mut self, address: u32) -> Option<&mut Equals> {
        let mut all = self.0.iter_mut();
        all.find(|(at, _)| *at == address).map(|(_, equals)| equals)
    }

    /// What the index knows: the name of the plain entry is not stored.
    fn position(equals: &Equals, name: Name) -> usize {
        let collisions = &mut equals[1..].iter();
        collisions
            .position(|(_, other)| *other == name)
            .map_or(0, |at| at + 1)
    }

    fn remove(&mut self, address: u32, name: Name) {
        if let Some(equals) = self.equals(address) {
            let at = Self::position(equals, name);
            equals.remove(at);
        }
        self.0.retain(|(_, equals)| !equals.is_empty());
    }

    fn retain(&mut self, keeps: impl Fn(u32) -> bool) -> u32 {
        let before = self.0.iter().map(|(_, equals)| equals.len()).sum::<usize>();
        for (_, equals) in &mut self.0 {
            equals.retain(|(payload, _)| keeps(*payload));
        }
        self.0.retain(|(_, equals)| !equals.is_empty());
        let after = self.0.iter().map(|(_, equals)| equals.len()).sum::<usize>();
        (before - after) as u32
    }

    fn collisions(&self) -> u32 {
        let more = self.0.iter().map(|(_, equals)| equals.len() - 1);
        more.sum::<usize>() as u32
    }

    /// The list as it is stored.
    fn encode(&self, code: &Code) -> Bits {
        let mut entries = Vec::new();
        let mut base = 0;
        for (address, equals) in &self.0 {
            for (at, (payload, name)) in equals.iter().enumerate() {
                entries.push(Fresh {
                    payload: *payload,
                    delta: address - base,
                    name: (at > 0).then_some(*name),
                });
                base = *address;
            }
        }
        let len = entries.iter().map(|entry| entry.bits(code)).sum::<usize>();
        let mut data = vec![0; len.div_ceil(8)];
        let mut writer = Writer::new(&mut data, 0);
        for entry in &entries {
            writer.push(code, entry);
        }
        assert_eq!(writer.at(), len);
        Bits { data, len }
    }

    fn check(&self, code: &Code, bits: &Bits) {
        let entries: Vec<_> = bits.list().entries(code).map(Result::unwrap).collect();
        let mut expected = Vec::new();
        for (address, equals) in &self.0 {
            for (at, (payload, name)) in equals.iter().enumerate() {
                expected.push((*address, *payload, (at > 0).then_some(*name)));
            }
        }
        let got: Vec<_> = entries
            .iter()
            .map(|entry| (entry.address, entry.payload, entry.name))
            .collect();
        assert_eq!(got, expected);
        assert_eq!(entries.last().map_or(0, Entry::end), bits.len);
        assert_eq!(self.encode(code).len, bits.len);
        // All of them, searched for in turns.
        let all = self
            .0
            .iter()
            .flat_map(|(address, equals)| equals.iter().map(|(_, name)| (*address, *name)))
            .chain([(0, Name([0; 16])), (u32::MAX, Name([1; 16]))]);
        let mut queries: Vec<_> = all
            .clone()
            .enumerate()
            .map(|(number, (address, _))| Query::search(code, number, bits.list(), address))
            .collect();
        walk_all(code, &mut queries);
        queries.sort_by_key(|query| query.number);
        for ((address, name), query) in all.zip(&queries) {
            let search = query.result(code, &name).unwrap();
            assert_eq!(bits.list().search(code, address, &name), Ok(search));
            let before = self.0.iter().rev().find(|(at, _)| *at < address);
            let mut base = before.map_or(0, |(address, _)| *address);
            let equals = self.0.iter().find(|(at, _)| *at == address);
            let found = equals.map_or(Found::Nothing, |(_, equals)| {
                match Self::position(equals, name) {
                    0 => Found::Plain(equals[0].0),
                    at => {
                        base = address;
                        Found::Collision(equals[at].0)
                    }
                }
            });
            assert_eq!((search.found, search.base), (found, base));
        }
    }
}

#[test]
fn lists_of_a_volume_index_decode() {
    // One entry whose difference has four zero bits; it begins with bit 5.
    let data = [0x00, 0x80, 0x35, 0x85];
    let list = List::new(&data, 5, 32).unwrap();
    let entries: Vec<_> = list.entries(&VOLUME).collect();
    assert_eq!(
        entries,
        [Ok(Entry {
            at: 5,
            bits: 27,
            address: 0x369b,
            payload: 0,
            name: None
        })]
    );
    // With everything that there is: collisions, the first address, long differences.
    let mut data = vec![0; 91];
    let hex =
        "0000000000000000001234500000444444444444444400040000f204400000304f006458001007002e04";
    for (at, byte) in data.iter_mut().enumerate().take(hex.len() / 2) {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    }
    let list = List::new(&data, 4, 4 + 718).unwrap();
    let heads: Vec<_> = list
        .entries(&VOLUME)
        .take(8)
        .map(|entry| entry.map(|entry| (entry.address, entry.at - 4, entry.bits)))
        .collect();
    let expected = [
        (0, 0, 22),
        (0, 22, 150),
        (1, 172, 22),
        (0x4f3, 194, 22),
        (0x4f4, 216, 22),
        (0x9e7, 238, 22),
        (0x1000, 260, 23),
        (0x1388, 283, 22),
    ];
    assert_eq!(heads, expected.map(Ok));
    let second = list.entries(&VOLUME).nth(1).unwrap().unwrap();
    assert_eq!(second.name, Some(name("00000012345000004444444444444444")));
}

#[test]
fn long_differences_have_the_length_of_the_format() {
    assert_eq!(VOLUME.plain_bits(1267), 22);
    assert_eq!(VOLUME.plain_bits(1268), 23);
    assert_eq!(VOLUME.plain_bits(695_000), 268);
    assert_eq!(VOLUME.plain_bits(348_575), 145);
    assert_eq!(VOLUME.plain_bits((1 << 20) - 1), 10 + 12 + 371);
    assert_eq!(Code::new(65_536, 6).plain_bits((1 << 22) - 1), 6 + 16 + 92);
    assert_eq!(VOLUME.collision_bits(), 150);
}

#[test]
fn the_index_of_a_chapter_decodes() {
    let chapter = crate::vectors::file("b-chapter0.bin.xz");
    let listing = crate::vectors::file("b-chapter0-index-page0.txt.xz");
    let listing = std::string::String::from_utf8(listing).unwrap();
    let page = &chapter[..32_768];
    let code = Code::new(65_536, 6);
    let lists = usize::from(page[18]) + 256 * usize::from(page[19]);
    let field = |index: usize| {
        let at = 160 + 19 * index;
        (bits::window(page, at) & bits::ones(19)) as usize
    };
    let mut lines = listing.lines().filter(|line| !line.starts_with('#'));
    let mut again = page.to_vec();
    for list_number in 0..lists {
        let list = List::new(page, field(list_number), field(list_number + 1)).unwrap();
        let mut base = 0;
        let mut writer = Writer::new(&mut again, list.start());
        for entry in list.entries(&code) {
            let entry = entry.unwrap();
            let parts: Vec<_> = lines.next().unwrap().split(' ').collect();
            assert_eq!(parts[0].parse(), Ok(list_number));
            assert_eq!(u32::from_str_radix(parts[1], 16), Ok(entry.address));
            assert_eq!(parts[2].parse(), Ok(entry.payload));
            assert_eq!(parts[3].parse(), Ok(entry.at));
            assert_eq!(parts[4].parse(), Ok(entry.bits));
            assert_eq!(parts[5] == "1", entry.name.is_some());
            if let Some(found) = entry.name {
                assert_eq!(found, name(parts[6]));
            }
            let full = name(parts[6]);
            let search = list.search(&code, entry.address, &full).unwrap();
            if entry.name.is_some() {
                assert_eq!(search.found, Found::Collision(entry.payload));
            }
            writer.push(
                &code,
                &Fresh {
                    payload: entry.payload,
                    delta: entry.address - base,
                    name: entry.name,
                },
            );
            base = entry.address;
        }
        assert_eq!(writer.at(), list.end());
    }
    assert_eq!(lines.next(), None);
    assert!(again == page, "the page is the same when written again");
}

/// A change of a list.
#[derive(Clone, Debug)]
enum Change {
    Insert(u32, u8, u32),
    Remove(u32, u8),
    SetPayload(u32, u8, u32),
    Retain(u32),
}

fn changes(addresses: u32) -> impl Strategy<Value = Vec<Change>> {
    let address = 0..addresses;
    let change = prop_oneof![
        6 => (address.clone(), any::<u8>(), 0..8u32)
            .prop_map(|(address, name, payload)| Change::Insert(address, name, payload)),
        2 => (address.clone(), any::<u8>()).prop_map(|(address, name)| Change::Remove(address, name)),
        1 => (address, any::<u8>(), 0..8u32)
            .prop_map(|(address, name, payload)| Change::SetPayload(address, name, payload)),
        1 => (0..8u32).prop_map(Change::Retain),
    ];
    prop::collection::vec(change, 1..120)
}

fn apply(changes: &[Change], code: &Code) {
    let mut bits = Bits::default();
    let mut model = Model::default();
    for change in changes {
        match *change {
            Change::Insert(address, byte, payload) => {
                let name = Name([byte; 16]);
                let is_known = model
                    .equals(address)
                    .is_some_and(|equals| equals.iter().any(|(_, other)| *other == name));
                if !is_known {
                    bits.insert(code, address, payload, &name);
                    model.insert(address, payload, name);
                }
            }
            Change::Remove(address, byte) => {
                bits.remove(code, address, &Name([byte; 16]));
                model.remove(address, Name([byte; 16]));
            }
            Change::SetPayload(address, byte, payload) => {
                let name = Name([byte; 16]);
                let search = bits.list().search(code, address, &name).unwrap();
                if search.found != Found::Nothing {
                    set_payload(code, &mut bits.data, search.at, payload);
                }
                if let Some(equals) = model.equals(address) {
                    let at = Model::position(equals, name);
                    equals[at].0 = payload;
                }
            }
            Change::Retain(gone) => {
                let keeps = |payload| payload != gone;
                let before = model.collisions();
                let done = retain(code, &mut bits.data, bits.len, keeps).unwrap();
                bits.len = done.bits;
                assert_eq!(done.removed, model.retain(keeps));
                assert_eq!(done.fewer_collisions, before - model.collisions());
            }
        }
        model.check(code, &bits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changes_do_what_a_model_does(changes in changes(40)) {
        apply(&changes, &TOY);
    }

    #[test]
    fn changes_with_long_differences_do_too(changes in changes(1 << 14)) {
        apply(&changes, &TOY);
    }

    #[test]
    fn changes_of_real_lists_do_too(changes in changes(1 << 20)) {
        apply(&changes, &VOLUME);
    }

    #[test]
    fn any_bytes_decode_to_something_within_the_list(
        data in prop::collection::vec(any::<u8>(), 0..400),
        zeros in 0..400usize,
        start in 0..64usize,
        cut in 0..64usize,
        payload_bits in 0..=24u32,
        mean in prop_oneof![1..10u32, Just(4080), Just(65_536)],
        address in 0..1u32 << 22,
    ) {
        let code = Code::new(mean, payload_bits);
        let data = [data, vec![0; zeros]].concat();
        let Some(end) = (data.len() * 8).checked_sub(cut).filter(|end| start <= *end) else {
            return Ok(());
        };
        let list = List::new(&data, start, end).unwrap();
        let mut at = start;
        let mut damaged = false;
        for entry in list.entries(&code) {
            match entry {
                Ok(entry) => {
                    prop_assert_eq!(entry.at, at);
                    at = entry.end();
                }
                Err(Damaged) => damaged = true,
            }
        }
        prop_assert!(at <= end);
        prop_assert!(damaged || at == end);
        let key = Name([7; 16]);
        let one = list.search(&code, address, &key);
        let mut queries = [0, 1, 2, 3, 4, 5].map(|number| Query::search(&code, number, list, address));
        walk_all(&code, &mut queries);
        for query in &queries {
            prop_assert_eq!(query.result(&code, &key), one);
        }
        if let Ok(search) = one {
            prop_assert!(search.at as usize <= list.bits());
        }
        // Changes of a damaged list are errors, or leave a list of the length that was said.
        let mut bits = Bits { len: end, data: data.clone() };
        if let Ok(search) = bits.list().search(&code, address, &key) {
            if let Ok(splice) = Splice::remove(&code, &bits.list(), search.at) {
                bits.splice(&code, splice);
            }
        }
        if let Ok(search) = bits.list().search(&code, address, &key) {
            let list = bits.list();
            if let Ok(splice) = Splice::insert(&code, &list, &search, address, 0, &key) {
                bits.splice(&code, splice);
            }
        }
        if let Ok(done) = retain(&code, &mut bits.data, bits.len, |payload| payload % 3 == 0) {
            prop_assert!(done.bits <= bits.len);
        }
    }

    #[test]
    fn bits_move_as_if_one_by_one(
        data in prop::collection::vec(any::<u8>(), 40..80),
        from in 0..100usize,
        to in 0..100usize,
        count in 0..220usize,
    ) {
        let bit = |data: &[u8], at: usize| (data[at / 8] >> (at % 8)) & 1;
        let mut moved = data.clone();
        bits::shift(&mut moved, from, to, count);
        for at in 0..data.len() * 8 {
            let source = if (to..to + count).contains(&at) { at - to + from } else { at };
            prop_assert_eq!(bit(&moved, at), bit(&data, source));
        }
    }
}
