//! This module names the members of data types that are looked at when values are taken out.

use std::sync::LazyLock;

use chartmesh_record::FieldName;

/// The names.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) bounds_period: FieldName,
    pub(crate) city: FieldName,
    pub(crate) code: FieldName,
    pub(crate) coding: FieldName,
    pub(crate) comparator: FieldName,
    pub(crate) country: FieldName,
    pub(crate) currency: FieldName,
    pub(crate) display: FieldName,
    pub(crate) district: FieldName,
    pub(crate) end: FieldName,
    pub(crate) event: FieldName,
    pub(crate) family: FieldName,
    pub(crate) given: FieldName,
    pub(crate) high: FieldName,
    pub(crate) id: FieldName,
    pub(crate) identifier: FieldName,
    pub(crate) kind: FieldName,
    pub(crate) latitude: FieldName,
    pub(crate) line: FieldName,
    pub(crate) longitude: FieldName,
    pub(crate) low: FieldName,
    pub(crate) postal_code: FieldName,
    pub(crate) prefix: FieldName,
    pub(crate) reference: FieldName,
    pub(crate) repeat: FieldName,
    pub(crate) start: FieldName,
    pub(crate) state: FieldName,
    pub(crate) suffix: FieldName,
    pub(crate) system: FieldName,
    pub(crate) text: FieldName,
    pub(crate) unit: FieldName,
    pub(crate) value: FieldName,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let name = FieldName::new;
    Names {
        bounds_period: name("boundsPeriod"),
        city: name("city"),
        code: name("code"),
        coding: name("coding"),
        comparator: name("comparator"),
        country: name("country"),
        currency: name("currency"),
        display: name("display"),
        district: name("district"),
        end: name("end"),
        event: name("event"),
        family: name("family"),
        given: name("given"),
        high: name("high"),
        id: name("id"),
        identifier: name("identifier"),
        kind: name("type"),
        latitude: name("latitude"),
        line: name("line"),
        longitude: name("longitude"),
        low: name("low"),
        postal_code: name("postalCode"),
        prefix: name("prefix"),
        reference: name("reference"),
        repeat: name("repeat"),
        start: name("start"),
        state: name("state"),
        suffix: name("suffix"),
        system: name("system"),
        text: name("text"),
        unit: name("unit"),
        value: name("value"),
    }
});

impl Names {
    /// All of them.
    pub(crate) fn all() -> &'static Self {
        &NAMES
    }
}
