//! Orders are added up, per customer. Pure.
//!
//! **Memory goes with the customers, not with their orders**: 64 bytes, an id of more than 14 bytes, 9 bytes in a hash
//! table, and as much again where vector and table have just doubled; 56 bytes more while the totals are made. If
//! `order` is named, each distinct order takes 17 bytes in a table that is at least 7/16 full.
//!
//! A million customers do not fit into the processor's caches, so time goes into waiting for memory. Some orders are
//! therefore looked up first and added after that: of lookups that do not depend on each other, the processor does
//! several at a time.

use super::super::{LeftOut, Totals};
use super::money::Sum;
use super::rows::{Chunk, Counts, OrderHash, Row};
use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hint::black_box;

/// The customers of the orders read so far.
#[derive(Default)]
pub struct Customers {
    /// What is known of each, in the order in which they came.
    customers: Vec<Customer>,
    /// Finds a customer by the id.
    table: HashTable<Slot>,
    /// The long ids.
    ids: String,
    /// The distinct orders that count, if `order` is named.
    orders: HashTable<OrderHash>,
    /// Which customers some orders seem to be of.
    found: Vec<u32>,
    /// Which of these orders were there before.
    known: Vec<bool>,
}

/// A customer, in one line of the processor's caches.
#[repr(align(64))]
struct Customer {
    /// Who it is.
    id: Id,
    /// The time of the last order, in microseconds since 1970; [`NEVER`]: there were refunds only.
    last: i64,
    /// How many orders there were.
    orders: u64,
    /// Their money.
    money: Sum,
}

/// Before all times.
const NEVER: i64 = i64::MIN;

/// The id of a customer.
enum Id {
    /// Here.
    Short {
        /// How long it is.
        len: u8,
        /// It, and what does not count.
        bytes: [u8; SHORT],
    },
    /// In [`Customers::ids`].
    Long {
        /// How long it is.
        len: u32,
        /// Where it begins.
        begin: usize,
    },
}

/// The longest short id: with it, an [`Id`] takes 16 bytes.
const SHORT: usize = 14;

impl Id {
    fn new(id: &str, ids: &mut String) -> anyhow::Result<Self> {
        if id.len() > SHORT {
            let begin = ids.len();
            ids.push_str(id);
            return Ok(Self::Long { len: u32::try_from(id.len())?, begin });
        }
        let mut bytes = [0; SHORT];
        bytes[..id.len()].copy_from_slice(id.as_bytes());
        Ok(Self::Short { len: id.len() as u8, bytes })
    }

    fn bytes<'a>(&'a self, ids: &'a str) -> &'a [u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long { len, begin } => &ids.as_bytes()[*begin..*begin + *len as usize],
        }
    }
}

/// A customer in the hash table.
struct Slot {
    /// Half of the id's hash: the customer itself is seldom looked at in vain.
    hash: u32,
    /// Which one it is.
    index: u32,
}

/// The hash by which the table places a slot: it takes bits from both ends.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// How many orders are looked up together: as many pages of memory as the processor knows the places of.
const GROUP: usize = 512;

/// No customer.
const NOBODY: u32 = u32::MAX;

impl Customers {
    /// Adds the orders of a chunk.
    ///
    /// # Errors
    /// There are more customers than can be counted.
    pub fn add(&mut self, chunk: &Chunk) -> anyhow::Result<()> {
        let mut begin = 0;
        for (group, rows) in chunk.rows.chunks(GROUP).enumerate() {
            let orders = chunk.orders.get(group * GROUP..).unwrap_or_default();
            let orders = &orders[..orders.len().min(GROUP)];
            self.look_up(rows, orders);
            for (place, row) in rows.iter().enumerate() {
                let id = &chunk.ids[begin..row.id_end];
                begin = row.id_end;
                let index = self.index(self.found[place], row, id)?;
                let customer = &mut self.customers[index];
                customer.money.add(&row.amount);
                if !row.amount.is_negative() {
                    customer.last = customer.last.max(row.time);
                    let is_known = |&order| self.known[place] || !is_new(&mut self.orders, order);
                    customer.orders += u64::from(!orders.get(place).is_some_and(is_known));
                }
            }
        }
        Ok(())
    }

    /// Finds the customers by the halves of their hashes, and which orders are known.
    fn look_up(&mut self, rows: &[Row], orders: &[OrderHash]) {
        let find = |row: &Row| {
            let hash = row.hash as u32;
            self.table.find(spread(hash), |slot| slot.hash == hash).map_or(NOBODY, |slot| slot.index)
        };
        self.found.clear();
        self.found.extend(rows.iter().map(find));
        let is_known = |order: &OrderHash| self.orders.find(order[0], |known| known == order).is_some();
        self.known.clear();
        self.known.extend(orders.iter().map(is_known));
        // Brings the customers into the caches.
        let last = |&index: &u32| self.customers.get(index as usize).map_or(0, |customer| customer.last);
        black_box(self.found.iter().map(last).fold(0, i64::wrapping_add));
    }

    /// Which customer has an id: probably the one that was found; if none, a new one.
    fn index(&mut self, found: u32, row: &Row, id: &str) -> anyhow::Result<usize> {
        let (customers, ids) = (&self.customers, &self.ids);
        let is_it = |index: u32| {
            customers.get(index as usize).is_some_and(|customer| customer.id.bytes(ids) == id.as_bytes())
        };
        if is_it(found) {
            return Ok(found as usize);
        }
        let hash = row.hash as u32;
        let is_its = |slot: &Slot| slot.hash == hash && is_it(slot.index);
        let slot = match self.table.entry(spread(hash), is_its, |slot| spread(slot.hash)) {
            Entry::Occupied(slot) => return Ok(slot.get().index as usize),
            Entry::Vacant(slot) => slot,
        };
        let index = u32::try_from(self.customers.len()).ok().filter(|&index| index != NOBODY);
        let index = index.context("there are more than 4294967295 customers")?;
        let id = Id::new(id, &mut self.ids)?;
        self.customers.push(Customer { id, last: NEVER, orders: 0, money: Sum::default() });
        slot.insert(Slot { hash, index });
        Ok(index as usize)
    }

    /// What is known of the customers at an instant, after all orders before it.
    ///
    /// # Errors
    /// The money of a customer is a number that f64 does not have.
    pub fn totals(self, counts: Counts, as_of: DateTime<Utc>) -> anyhow::Result<Totals> {
        let Self { customers, ids, .. } = self.forget_tables();
        let mut totals = Totals { orders: counts.orders, ..Totals::default() };
        let sorted = sorted(&customers, &ids);
        let refunds_only = (customers.len() - sorted.len()) as u64;
        totals.left_out = LeftOut { no_customer: counts.no_customer, refunds_only };
        let columns = &mut totals.columns;
        for column in [&mut columns.recency, &mut columns.frequency, &mut columns.monetary] {
            column.reserve_exact(sorted.len());
        }
        for (_, index) in sorted {
            let customer = &customers[index as usize];
            let last = DateTime::from_timestamp_micros(customer.last).context("a time has no date")?;
            let money = customer.money.to_f64().ok_or_else(no_float)?;
            let id = std::str::from_utf8(customer.id.bytes(&ids)).context("an id is not UTF-8")?;
            totals.push(id, last, customer.orders, money, as_of);
        }
        Ok(totals)
    }

    /// Frees what only adding needs.
    fn forget_tables(self) -> Self {
        Self { customers: self.customers, ids: self.ids, ..Self::default() }
    }
}

/// Whether an order is seen for the first time.
fn is_new(orders: &mut HashTable<OrderHash>, order: OrderHash) -> bool {
    match orders.entry(order[0], |known| *known == order, |known| known[0]) {
        Entry::Occupied(_) => false,
        Entry::Vacant(slot) => {
            slot.insert(order);
            true
        }
    }
}

/// The customers with an order, ascending by the bytes of their ids. Each has eight bytes of the id with it, from
/// where not all ids are alike: they nearly always decide.
fn sorted(customers: &[Customer], ids: &str) -> Vec<(u64, u32)> {
    let id = |index: u32| customers[index as usize].id.bytes(ids);
    let counting =
        || (0..).zip(customers).filter(|(_, customer)| customer.last != NEVER).map(|(index, _)| index);
    let first = counting().next().map_or(&[][..], id);
    let common = counting().fold(first.len(), |common, index| {
        first[..common].iter().zip(id(index)).take_while(|(one, other)| one == other).count()
    });
    let bytes = |index: u32| {
        let mut bytes = [0; 8];
        let rest = &id(index)[common..];
        let len = rest.len().min(8);
        bytes[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(bytes)
    };
    let mut sorted: Vec<(u64, u32)> = counting().map(|index| (bytes(index), index)).collect();
    sorted.sort_unstable_by(|one, other| one.0.cmp(&other.0).then_with(|| id(one.1).cmp(id(other.1))));
    sorted
}

#[cold]
fn no_float() -> anyhow::Error {
    anyhow!("the amounts of a customer add up to a number that 64-bit floating point does not have")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::source::orders::csv::money::Amount;
    use proptest::prelude::*;
    use std::mem::size_of;

    fn of(ids: &[String], hash: impl Fn(&str) -> u64) -> Customers {
        let mut chunk = Chunk::default();
        for id in ids {
            chunk.ids.push_str(id);
            let amount = Amount::Short { units: 1, places: 0 };
            chunk.rows.push(Row { id_end: chunk.ids.len(), hash: hash(id), time: 0, amount });
        }
        let mut customers = Customers::default();
        customers.add(&chunk).unwrap();
        customers
    }

    fn ids(customers: Customers) -> Vec<String> {
        let totals = customers.totals(Counts::default(), DateTime::UNIX_EPOCH).unwrap();
        totals.ids.iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_customer_takes_less_than_200_bytes_beside_the_id() {
        // The vector and the table have just doubled. A slot of the table has a byte that says whether it is free, and
        // it is at least 7/16 full.
        let doubled = 2 * size_of::<Customer>() + (size_of::<Slot>() + 1) * 16 / 7 + 1;
        // Made at the end, when the table is gone: place in the order, number, end of the id and three numbers.
        let totals = 2 * size_of::<Customer>()
            + size_of::<(u64, u32)>()
            + 2 * size_of::<usize>()
            + 3 * size_of::<f64>();
        assert!(doubled < 200 && totals < 200, "{doubled}, {totals}");
        assert_eq!((size_of::<Customer>(), size_of::<Id>()), (64, 16));
    }

    #[test]
    fn customers_whose_hashes_are_the_same_are_told_apart() {
        let names: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(ids(of(&names, |_| 7)), sorted);
        assert_eq!(ids(of(&names, |id| id.len() as u64 + (1 << 40))), sorted);
    }

    #[test]
    fn a_customer_with_refunds_only_is_left_out() {
        let mut chunk = Chunk::default();
        for (id, units) in [("a", -1), ("b", 1), ("a", -1)] {
            chunk.ids.push_str(id);
            let amount = Amount::Short { units, places: 0 };
            let hash = u64::from(id.as_bytes()[0]);
            chunk.rows.push(Row { id_end: chunk.ids.len(), hash, time: 0, amount });
        }
        let mut customers = Customers::default();
        customers.add(&chunk).unwrap();
        let totals = customers.totals(Counts { orders: 3, no_customer: 5 }, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(totals.ids.iter().collect::<Vec<_>>(), ["b"]);
        assert_eq!(totals.left_out, LeftOut { no_customer: 5, refunds_only: 1 });
    }

    proptest! {
        #[test]
        fn ids_are_in_ascending_order_of_their_bytes(
            start in "[a-c]{0,12}", ends in prop::collection::vec("[a-c\u{1}é]{0,12}", 0..60)
        ) {
            let names: Vec<String> = ends.iter().map(|end| format!("x{start}{end}")).collect();
            let mut expected = names.clone();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(ids(of(&names, |id| id.bytes().map(u64::from).sum())), expected);
        }
    }
}
