//! This module indexes and seeks numbers (FHIR R4, search, 3.1.1.4.6).
//!
//! A number is kept as the binary number nearest to it: two of up to fifteen digits are equal if and
//! only if they are.

use chartmesh_record::{ElementType, FieldName, Node};

use crate::comparison::{self, Comparison};
use crate::fault::Fault;
use crate::names::Names;

/// What a number can be: one value, or everything between two, both included.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Interval {
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

/// A number that is sought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberSought {
    /// How what is found is to stand to it.
    pub comparison: Comparison,
    /// The number.
    pub exact: f64,
    /// What the digits that are given mean: from the first to below the second. `100` is anything that
    /// is rounded to it, from 99.5 on to below 100.5.
    pub rounded: (f64, f64),
}

impl Interval {
    /// One value.
    #[must_use]
    pub fn point(value: f64) -> Self {
        Self { low: value, high: value }
    }

    /// The interval of an element that holds a number.
    pub(crate) fn of(node: Node<'_>, kind: ElementType, names: &Names) -> Option<Self> {
        match kind.name() {
            "decimal" | "integer" | "positiveInt" | "unsignedInt" => {
                Some(Self::point(node.text()?.parse().ok()?))
            }
            "Range" => {
                let end = |name: &FieldName| -> Option<f64> {
                    node.member(name)?.member(&names.value)?.text()?.parse().ok()
                };
                let (low, high) = (end(&names.low), end(&names.high));
                low.or(high)?;
                let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
                Some(Self { low, high })
            }
            _ => None,
        }
    }

    /// It after a change of unit.
    pub(crate) fn converted(self, factor: f64, offset: f64) -> Self {
        let convert = |value: f64| rounded(value * factor + offset);
        Self { low: convert(self.low), high: convert(self.high) }
    }
}

impl NumberSought {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let (comparison, number) = comparison::split(text)?;
        Self::with(comparison, number)
    }

    pub(crate) fn with(comparison: Comparison, number: &str) -> Result<Self, Fault> {
        let exact = parse(number).ok_or("not a number")?;
        let rounded = match comparison {
            Comparison::Approximate => {
                let tenth = exact.abs() / 10.0;
                (exact - tenth, exact + tenth)
            }
            _ => range(number).ok_or("it has too many digits")?,
        };
        Ok(Self { comparison, exact, rounded })
    }

    /// Whether a number is meant.
    #[must_use]
    pub fn matches(&self, found: Interval) -> bool {
        let Self { exact, rounded: (from, below), .. } = *self;
        let equal = (found.low >= from && found.high < below)
            || (found.low == exact && found.high == exact);
        match self.comparison {
            Comparison::Equal => equal,
            Comparison::NotEqual => !equal,
            Comparison::Greater => found.high > exact,
            Comparison::Less => found.low < exact,
            Comparison::GreaterOrEqual => found.high >= exact,
            Comparison::LessOrEqual => found.low <= exact,
            Comparison::StartsAfter => found.low > exact,
            Comparison::EndsBefore => found.high < exact,
            Comparison::Approximate => found.high >= from && found.low <= below,
        }
    }

    /// Between which points a number lies that is meant; all of them if not only those between are.
    pub(crate) fn reach(&self) -> (f64, f64) {
        let Self { exact, rounded: (from, below), .. } = *self;
        match self.comparison {
            Comparison::Equal => (from.min(exact), below.max(exact)),
            Comparison::Approximate => (from, below),
            Comparison::NotEqual => (f64::NEG_INFINITY, f64::INFINITY),
            Comparison::Greater | Comparison::GreaterOrEqual | Comparison::StartsAfter => {
                (exact, f64::INFINITY)
            }
            Comparison::Less | Comparison::LessOrEqual | Comparison::EndsBefore => {
                (f64::NEG_INFINITY, exact)
            }
        }
    }

    /// It after a change of unit.
    pub(crate) fn converted(self, factor: f64, offset: f64) -> Self {
        let convert = |value: f64| rounded(value * factor + offset);
        let (from, below) = self.rounded;
        Self { exact: convert(self.exact), rounded: (convert(from), convert(below)), ..self }
    }
}

/// Eight bytes that sort as the numbers do.
pub(crate) fn sortable(value: f64) -> [u8; 8] {
    let bits = (value + 0.0).to_bits();
    let flipped = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    flipped.to_be_bytes()
}

/// A value after a calculation, as the decimal of twelve digits that it stands for.
fn rounded(value: f64) -> f64 {
    if value.is_finite() { format!("{value:.11e}").parse().unwrap_or(value) } else { value }
}

/// The value of a decimal as FHIR writes it.
fn parse(text: &str) -> Option<f64> {
    let plain = text.strip_prefix(['-', '+']).unwrap_or(text);
    let valid = plain.starts_with(|first: char| first.is_ascii_digit())
        && plain.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    valid.then(|| text.parse().ok()).flatten().filter(|value: &f64| value.is_finite())
}

/// What is rounded to a decimal of these digits: from the first on, below the second.
fn range(text: &str) -> Option<(f64, f64)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()? - 1;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let digits = digits.checked_mul(10)?;
    let bound = |digits: i128| format!("{digits}e{exponent}").parse::<f64>().ok();
    Some((bound(digits.checked_sub(5)?)?, bound(digits.checked_add(5)?)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(sought: &str, found: f64) -> bool {
        NumberSought::parse(sought).expect("a number").matches(Interval::point(found))
    }

    #[test]
    fn digits_say_how_exact_a_number_is_meant() {
        assert!(matches("100", 99.5) && matches("100", 100.499) && !matches("100", 100.5));
        assert!(matches("100.00", 100.0) && !matches("100.00", 100.01));
        assert!(matches("1e2", 149.0) && !matches("1e2", 150.0));
        assert!(matches("5.4", 5.35) && !matches("5.4", 5.45) && matches("-5.4", -5.4));
        assert!(matches("ne100", 100.5) && !matches("ne100", 100.4));
        assert!(matches("ap100", 110.0) && matches("ap100", 90.0) && !matches("ap100", 110.1));
    }

    #[test]
    fn comparisons_take_the_number_as_it_is() {
        assert!(matches("gt100", 100.1) && !matches("gt100", 100.0) && matches("ge100", 100.0));
        assert!(matches("lt100", 99.9) && !matches("lt100", 100.0) && matches("le100", 100.0));
        let range = Interval { low: 2.0, high: 5.0 };
        let is = |text| NumberSought::parse(text).expect("a number").matches(range);
        assert!(is("gt4") && !is("sa4") && is("sa1") && is("lt3") && !is("eb3") && is("eb6"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "x1", "1,5", "1.5kg", "gt", "inf", "NaN", "--1", "1e999"] {
            assert!(NumberSought::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_sort_as_numbers_do(one in any::<f64>(), other in any::<f64>()) {
            prop_assume!(!one.is_nan() && !other.is_nan());
            let keys = sortable(one).cmp(&sortable(other));
            prop_assert_eq!(Some(keys), (one + 0.0).partial_cmp(&(other + 0.0)));
        }

        #[test]
        fn what_matches_lies_within_reach(
            prefix in prop::sample::select(comparison::PREFIXES.to_vec()),
            sought in -1000..1000_i32,
            found in -1000..1000_i32,
        ) {
            let sought = NumberSought::parse(&format!("{}{sought}", prefix.0)).expect("a number");
            let found = f64::from(found);
            let (low, high) = sought.reach();
            if sought.matches(Interval::point(found)) {
                prop_assert!(low <= found && found <= high);
            }
        }
    }
}
