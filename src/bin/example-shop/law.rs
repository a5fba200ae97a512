//! Who orders what and when: Pareto/NBD for the times, gamma-gamma for the money.
//!
//! A customer orders for the first time, then at random times at a rate of its own, and at some moment leaves without
//! a word (Schmittlein, Morrison and Colombo, "Counting your customers", 1987). The amounts of a customer scatter
//! around a mean of its own (Fader, Hardie and Lee, "RFM and CLV", 2005). Rates and means differ between customers by
//! gamma distributions. The parameters are those that these authors found for the customers of CDNOW, a shop for CDs.

use crate::dice::Dice;
use std::collections::BTreeMap;
use std::ops::Range;

/// How often customers order, per week: gamma with this shape and rate ("Counting your customers the easy way", 2005).
const ORDERS: (f64, f64) = (0.553, 10.578);
/// How soon they leave, per week: gamma with this shape and rate (from the same table).
const LEAVING: (f64, f64) = (0.606, 11.669);
/// The shape of a customer's amounts: gamma, in dollars ("The gamma-gamma model of monetary value", 2013).
const AMOUNT: f64 = 6.25;
/// Their rate: gamma with this shape and rate.
const AMOUNT_RATE: (f64, f64) = (3.74, 15.44);

/// Of all orders, the share that is placed without an account, and the share that is sent back.
const GUESTS: f64 = 0.03;
const RETURNED: f64 = 0.05;
/// Of what is sent back, the share that is sent back whole.
const WHOLE: f64 = 0.6;
/// When, in days after the order: evenly between these.
const RETURN_DAYS: Range<f64> = 2.0..21.0;

const DAY: f64 = 86_400.0;
const WEEK: f64 = 7.0 * DAY;

/// A row of the shop's books: an order, or money that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The number of the order, from 1. A return has that of its order.
    pub order: u64,
    /// Who ordered; `None`: somebody without an account.
    pub customer: Option<u32>,
    /// Seconds since 1970.
    pub at: i64,
    /// Dollar cents, negative for what is given back.
    pub cents: i64,
}

/// What a customer is like.
#[derive(Clone, Copy, Debug)]
struct Customer {
    /// From 1, in order of the first orders.
    number: u32,
    /// Orders per second.
    rate: f64,
    /// The moment at which it leaves, in seconds since 1970.
    leaves: f64,
    /// The rate of its amounts, per dollar.
    amount_rate: f64,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A new customer orders, of whom this is the number.
    Arrival(u32),
    /// A customer orders again.
    Order(Customer),
    /// Goods come back.
    Return(Row),
}

/// The rows, in order of time.
#[derive(Debug)]
pub struct Shop {
    /// From here on all chances follow.
    dice: Dice,
    /// First and last second, the latter excluded.
    open: Range<i64>,
    /// How many customers will have come at the end.
    customers: u32,
    /// Orders until now.
    orders: u64,
    /// What is to come, by second and number. **It has an entry per customer that will order again**, not per order.
    planned: BTreeMap<(i64, u64), Event>,
    /// How many were planned.
    plans: u64,
}

impl Shop {
    /// A shop that is open from one second to another, into which `customers` come.
    pub fn new(customers: u32, open: Range<i64>, seed: u64) -> Self {
        let (dice, planned) = (Dice::new(seed), BTreeMap::new());
        let mut shop = Self { dice, open, customers, orders: 0, planned, plans: 0 };
        shop.await_customer(1);
        shop
    }

    /// Plans an event, if the shop is still open then.
    fn plan(&mut self, at: f64, event: Event) {
        if at < self.open.end as f64 {
            self.plans += 1;
            self.planned.insert((at as i64, self.plans), event);
        }
    }

    /// Customers come evenly over the time: each somewhere in a slice of its own.
    fn await_customer(&mut self, number: u32) {
        if number <= self.customers {
            let slice = (self.open.end - self.open.start) as f64 / f64::from(self.customers);
            let at = self.open.start as f64 + slice * (f64::from(number - 1) + self.dice.uniform());
            self.plan(at, Event::Arrival(number));
        }
    }

    /// A customer whose first order is at this second.
    fn customer(&mut self, number: u32, at: i64) -> Customer {
        let mut draw = |(shape, rate): (f64, f64)| self.dice.gamma(shape) / rate;
        let (rate, leaving, amount_rate) = (draw(ORDERS) / WEEK, draw(LEAVING) / WEEK, draw(AMOUNT_RATE));
        Customer { number, rate, leaves: at as f64 + self.dice.exponential() / leaving, amount_rate }
    }

    /// An order at this second. Plans the next one of the customer, and a return.
    fn order(&mut self, customer: Customer, at: i64) -> Row {
        let next = at as f64 + self.dice.exponential() / customer.rate;
        if next < customer.leaves {
            self.plan(next, Event::Order(customer));
        }
        self.orders += 1;
        let dollars = self.dice.gamma(AMOUNT) / customer.amount_rate;
        let account = (!self.dice.happens(GUESTS)).then_some(customer.number);
        let row = Row { order: self.orders, customer: account, at, cents: cents(dollars) };
        if self.dice.happens(RETURNED) {
            self.plan_return(row, dollars);
        }
        row
    }

    /// Some days later an order, or a part of it, comes back.
    fn plan_return(&mut self, row: Row, dollars: f64) {
        let days = RETURN_DAYS.start + (RETURN_DAYS.end - RETURN_DAYS.start) * self.dice.uniform();
        let back = if self.dice.happens(WHOLE) { row.cents } else { cents(dollars * self.dice.uniform()) };
        let at = row.at as f64 + days * DAY;
        self.plan(at, Event::Return(Row { at: at as i64, cents: -back, ..row }));
    }
}

impl Iterator for Shop {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let ((at, _), event) = self.planned.pop_first()?;
        Some(match event {
            Event::Arrival(number) => {
                self.await_customer(number + 1);
                let customer = self.customer(number, at);
                self.order(customer, at)
            }
            Event::Order(customer) => self.order(customer, at),
            Event::Return(row) => row,
        })
    }
}

/// Whole cents, and no order for nothing.
fn cents(dollars: f64) -> i64 {
    ((dollars * 100.0).round() as i64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 86_400;
    const CUSTOMERS: u32 = 20_000;

    fn rows() -> Vec<Row> {
        Shop::new(CUSTOMERS, 0..2 * YEAR, 5).collect()
    }

    /// The orders of each customer, guests' ones left out.
    fn orders(rows: &[Row]) -> BTreeMap<u32, Vec<Row>> {
        let mut orders: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.cents > 0) {
            if let Some(customer) = row.customer {
                orders.entry(customer).or_default().push(*row);
            }
        }
        orders
    }

    /// What Pareto/NBD expects of a customer in `weeks` after the first order: Schmittlein et al., equation 16.
    fn expected_repeats(weeks: f64) -> f64 {
        let ((r, alpha), (s, beta)) = (ORDERS, LEAVING);
        r * beta / (alpha * (s - 1.0)) * (1.0 - (beta / (beta + weeks)).powf(s - 1.0))
    }

    #[test]
    fn customers_order_as_often_as_the_law_says() {
        // Customers come evenly, so the mean over all of them is that over the weeks that they could order in.
        let weeks = 2.0 * YEAR as f64 / WEEK;
        let expected: f64 =
            (0..1_000).map(|k| expected_repeats(weeks * (f64::from(k) + 0.5) / 1_000.0)).sum::<f64>()
                / 1_000.0;
        let sold = rows().iter().filter(|row| row.cents > 0).count() as f64;
        let repeats = sold / f64::from(CUSTOMERS) - 1.0;
        assert!(
            (repeats / expected - 1.0).abs() < 0.05,
            "{repeats} repeated orders per customer, not {expected}"
        );
    }

    #[test]
    fn about_half_of_the_customers_order_once() {
        let orders = orders(&rows());
        let once = orders.values().filter(|rows| rows.len() == 1).count() as f64 / orders.len() as f64;
        assert!((0.5..0.75).contains(&once), "{once}");
    }

    #[test]
    fn a_few_spend_a_lot() {
        // The mean of gamma-gamma is p * gamma / (q - 1).
        let expected = AMOUNT * AMOUNT_RATE.1 / (AMOUNT_RATE.0 - 1.0);
        let mut spent: Vec<f64> = orders(&rows())
            .values()
            .map(|rows| rows.iter().map(|row| row.cents as f64 / 100.0).sum::<f64>() / rows.len() as f64)
            .collect();
        let mean = spent.iter().sum::<f64>() / spent.len() as f64;
        assert!((mean / expected - 1.0).abs() < 0.05, "{mean} per order, not {expected}");
        spent.sort_by(f64::total_cmp);
        assert!(spent[spent.len() - 1] > 10.0 * mean);
    }

    #[test]
    fn some_orders_come_back_and_some_have_no_customer() {
        let rows = rows();
        let (sold, back): (Vec<Row>, Vec<Row>) = rows.iter().partition(|row| row.cents > 0);
        let share = |count: usize| count as f64 / sold.len() as f64;
        assert!((0.04..0.06).contains(&share(back.len())), "{} returns", back.len());
        let guests = sold.iter().filter(|row| row.customer.is_none()).count();
        assert!((0.02..0.04).contains(&share(guests)), "{guests} guests");
        for row in &back {
            let order = sold[row.order as usize - 1];
            assert!(
                order.order == row.order
                    && order.customer == row.customer
                    && order.at < row.at
                    && -row.cents <= order.cents
            );
        }
    }
}
