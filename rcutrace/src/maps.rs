// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which file lies at which address of an image.

use std::rc::Rc;

/// A mapped file.
#[derive(Clone, Debug)]
pub struct Map {
    /// Its first address.
    pub start: u64,
    /// Behind its last.
    pub end: u64,
    /// The first address's offset in the file.
    pub offset: u64,
    /// Of the file that was mapped; may be empty.
    pub build_id: Rc<[u8]>,
    /// Its path.
    pub path: Rc<str>,
}

/// The maps of an image. Where two overlap the later in the file holds: the earlier was unmapped.
#[derive(Debug, Default)]
pub struct Maps {
    added: Vec<Map>,
    sorted: Vec<Map>,
}

impl Maps {
    /// One more.
    pub fn add(&mut self, map: Map) {
        if map.start < map.end {
            self.added.push(map);
        }
    }

    /// No more will be added.
    pub fn finish(&mut self) {
        // From the last to the first, so that each takes what is left.
        let mut by_start = std::collections::BTreeMap::<u64, Map>::new();
        for map in self.added.drain(..).rev() {
            let mut start = map.start;
            // The ones in the way: one may begin before.
            let first = by_start.range(..=start).next_back().map_or(start, |(&key, _)| key);
            let taken: Vec<(u64, u64)> =
                by_start.range(first..map.end).map(|(_, other)| (other.start, other.end)).collect();
            for (from, to) in taken.into_iter().chain([(map.end, map.end)]) {
                if start < from {
                    let offset = map.offset.wrapping_add(start - map.start);
                    by_start.insert(start, Map { start, end: from, offset, ..map.clone() });
                }
                start = start.max(to);
            }
        }
        self.sorted = by_start.into_values().collect();
    }

    /// The map that an address lies in.
    pub fn find(&self, address: u64) -> Option<&Map> {
        let after = self.sorted.partition_point(|map| map.start <= address);
        self.sorted.get(after.checked_sub(1)?).filter(|map| address < map.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(start: u64, end: u64, path: &str) -> Map {
        Map { start, end, offset: start * 10, build_id: [].into(), path: path.into() }
    }

    #[test]
    fn an_address_is_in_the_map_that_came_last() {
        let mut maps = Maps::default();
        maps.add(map(10, 100, "old"));
        maps.add(map(20, 30, "new"));
        maps.add(map(90, 110, "newer"));
        maps.finish();
        let at = |address| maps.find(address).map(|map| (&*map.path, map.offset));
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(("old", 100)));
        assert_eq!(at(25), Some(("new", 200)));
        assert_eq!(at(30), Some(("old", 120)));
        assert_eq!(at(89), Some(("old", 120)));
        assert_eq!(at(95), Some(("newer", 900)));
        assert_eq!(at(110), None);
    }
}
