//! This module indexes and seeks quantities (FHIR R4, search, 3.1.1.4.14).
//!
//! A quantity in a unit of UCUM is kept in its canonical unit too: `1 g` is found as `1000 mg`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

use chartmesh_record::{ElementType, Node, escape};

use crate::comparison;
use crate::fault::Fault;
use crate::names::Names;
use crate::number::{Interval, NumberSought};

/// The system of UCUM's units.
pub(crate) const UCUM: &str = "http://unitsofmeasure.org";
/// Units of which it is remembered what they are canonically.
const UNITS_KEPT: usize = 4_096;

/// A number of a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity<'v> {
    /// The number.
    pub value: Interval,
    /// The system of the unit's code.
    pub system: Option<Cow<'v, str>>,
    /// The unit's code.
    pub code: Option<Cow<'v, str>>,
    /// The unit for people.
    pub unit: Option<Cow<'v, str>>,
}

/// A quantity that is sought.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantitySought {
    /// The number.
    pub number: NumberSought,
    /// What its unit must be.
    pub unit: UnitSought,
}

/// What the unit of a quantity must be.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitSought {
    /// Anything (`5.4`).
    Any,
    /// This code or this unit for people (`5.4||mg`).
    Written(String),
    /// This code of this system (`5.4|system|mg`).
    Code(String, String),
}

/// What a unit is in the canonical one.
#[derive(Clone, Debug, PartialEq)]
struct Canonical {
    unit: String,
    factor: f64,
    offset: f64,
}

static UNITS: LazyLock<RwLock<HashMap<String, Option<Canonical>>>> = LazyLock::new(RwLock::default);

/// What does something with the canonical form of a unit of UCUM, if it has one.
fn canonical<T>(code: &str, use_it: impl Fn(&Canonical) -> T) -> Option<T> {
    if let Some(known) = UNITS.read().expect("no holder panics").get(code) {
        return known.as_ref().map(use_it);
    }
    let found = octofhir_ucum::get_canonical_units(code).ok().map(|it| Canonical {
        unit: it.unit,
        factor: it.factor.to_f64(),
        offset: it.offset.to_f64(),
    });
    let used = found.as_ref().map(use_it);
    let mut units = UNITS.write().expect("no holder panics");
    if units.len() < UNITS_KEPT {
        units.insert(code.to_owned(), found);
    }
    used
}

impl<'v> Quantity<'v> {
    /// The quantities of an element.
    pub(crate) fn of(node: Node<'v>, kind: ElementType, names: &Names) -> Option<Self> {
        let text = |node: Node<'v>, name| node.member(name).and_then(Node::text);
        let number = |node: Node<'v>| -> Option<f64> { text(node, &names.value)?.parse().ok() };
        let in_unit_of = |value, node| Self {
            value,
            system: text(node, &names.system),
            code: text(node, &names.code),
            unit: text(node, &names.unit),
        };
        match kind.name() {
            "Money" => Some(Self {
                value: Interval::point(number(node)?),
                system: Some("urn:iso:std:iso:4217".into()),
                code: text(node, &names.currency),
                unit: None,
            }),
            "Range" => {
                let (low, high) = (node.member(&names.low), node.member(&names.high));
                let value = Interval::of(node, kind, names)?;
                Some(in_unit_of(value, low.or(high)?))
            }
            _ if Self::is_in(kind) => {
                let value = number(node)?;
                let interval = match text(node, &names.comparator).as_deref() {
                    Some("<" | "<=") => Interval { low: f64::NEG_INFINITY, high: value },
                    Some(">" | ">=") => Interval { low: value, high: f64::INFINITY },
                    _ => Interval::point(value),
                };
                Some(in_unit_of(interval, node))
            }
            _ => None,
        }
    }

    /// Whether values of this type are quantities.
    pub(crate) fn is_in(kind: ElementType) -> bool {
        matches!(
            kind.name(),
            "Quantity"
                | "SimpleQuantity"
                | "MoneyQuantity"
                | "Age"
                | "Count"
                | "Distance"
                | "Duration"
                | "Money"
                | "Range"
        )
    }

    /// It in its canonical unit, and that.
    pub(crate) fn canonical(&self) -> Option<(Interval, String)> {
        if self.system.as_deref() != Some(UCUM) {
            return None;
        }
        let convert =
            |it: &Canonical| (self.value.converted(it.factor, it.offset), it.unit.clone());
        canonical(self.code.as_deref()?, convert)
    }
}

impl QuantitySought {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let parts = escape::split(text, '|').map(escape::unescape);
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let (number, unit) = match &parts[..] {
            [number] => (number, UnitSought::Any),
            [number, system, code] if system.is_empty() && code.is_empty() => {
                (number, UnitSought::Any)
            }
            [number, system, code] if system.is_empty() => {
                (number, UnitSought::Written(code.clone()))
            }
            [number, system, code] => (number, UnitSought::Code(system.clone(), code.clone())),
            _ => return Err("not number, number||unit or number|system|code".into()),
        };
        if matches!(&unit, UnitSought::Code(_, code) if code.is_empty()) {
            return Err("a system without a code".into());
        }
        let (comparison, number) = comparison::split(number)?;
        Ok(Self { number: NumberSought::with(comparison, number)?, unit })
    }

    /// Whether a quantity is meant.
    #[must_use]
    pub fn matches(&self, found: &Quantity<'_>) -> bool {
        match &self.unit {
            UnitSought::Any => self.number.matches(found.value),
            UnitSought::Written(unit) => {
                let is_it = |text: &Option<Cow<'_, str>>| text.as_deref() == Some(unit);
                (is_it(&found.code) || is_it(&found.unit)) && self.number.matches(found.value)
            }
            UnitSought::Code(system, code) => {
                let same =
                    found.system.as_deref() == Some(system) && found.code.as_deref() == Some(code);
                if same {
                    return self.number.matches(found.value);
                }
                let both = self.canonical().zip(found.canonical());
                both.is_some_and(|((sought, unit), (value, other))| {
                    unit == other && sought.matches(value)
                })
            }
        }
    }

    /// It in the canonical unit of UCUM, and that; `None` if it is not sought in one.
    pub(crate) fn canonical(&self) -> Option<(NumberSought, String)> {
        let UnitSought::Code(system, code) = &self.unit else { return None };
        let convert =
            |it: &Canonical| (self.number.converted(it.factor, it.offset), it.unit.clone());
        (system == UCUM).then(|| canonical(code, convert)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: f64, code: &'static str) -> Quantity<'static> {
        Quantity {
            value: Interval::point(value),
            system: Some(UCUM.into()),
            code: Some(code.into()),
            unit: Some("written".into()),
        }
    }

    fn matches(sought: &str, value: f64, code: &'static str) -> bool {
        QuantitySought::parse(sought).expect("a quantity").matches(&found(value, code))
    }

    #[test]
    fn units_are_converted() {
        assert!(matches("1|http://unitsofmeasure.org|g", 1000.0, "mg"));
        assert!(matches("1000|http://unitsofmeasure.org|mg", 1.0, "g"));
        assert!(matches("5.4|http://unitsofmeasure.org|mg", 0.0054, "g"));
        assert!(!matches("5.4|http://unitsofmeasure.org|mg", 0.0055, "g"));
        assert!(matches("gt36|http://unitsofmeasure.org|Cel", 310.0, "K"));
        assert!(!matches("1|http://unitsofmeasure.org|g", 1.0, "m"));
    }

    #[test]
    fn a_unit_may_be_left_out_or_given_as_it_is_written() {
        assert!(matches("1000", 1000.0, "mg") && matches("1000||mg", 1000.0, "mg"));
        assert!(matches("1000||written", 1000.0, "mg") && !matches("1||g", 1000.0, "mg"));
        assert!(!matches("1000|urn:a|mg", 1000.0, "mg"));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "mg", "1|mg", "1|urn:a|", "1|a|b|c", "xx1"] {
            assert!(QuantitySought::parse(text).is_err(), "{text}");
        }
    }
}
