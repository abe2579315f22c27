//! This module seeks places on earth (FHIR R4, location, `near`).

use chartmesh_record::escape;

use crate::fault::Fault;
use crate::quantity::UCUM;

/// A place, and how near to it is near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearSought {
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// Kilometres.
    pub distance: f64,
}

/// The radius of the earth, and what is near if nobody says, in kilometres.
const EARTH: f64 = 6_371.0;
const NEAR: f64 = 50.0;

impl NearSought {
    /// `latitude|longitude|distance|unit`, of which the last two may be left out; the unit is one of
    /// length.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let parts: Vec<_> = escape::split(text, '|').collect();
        let number = |text: &str| -> Result<f64, Fault> {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| "not latitude|longitude|distance|unit".into())
        };
        let [latitude, longitude, rest @ ..] = &parts[..] else {
            return Err("not latitude|longitude|distance|unit".into());
        };
        let (latitude, longitude) = (number(latitude)?, number(longitude)?);
        if latitude.abs() > 90.0 || longitude.abs() > 180.0 {
            return Err("there is no such place on earth".into());
        }
        let distance = match rest {
            [] => NEAR,
            [distance] => number(distance)?,
            [distance, unit] => number(distance)? * kilometres(unit)?,
            _ => return Err("not latitude|longitude|distance|unit".into()),
        };
        Ok(Self { latitude, longitude, distance })
    }

    /// Whether a place is near.
    #[must_use]
    pub fn matches(&self, latitude: f64, longitude: f64) -> bool {
        let [from, to] = [self.latitude, latitude].map(f64::to_radians);
        let [north, east] =
            [latitude - self.latitude, longitude - self.longitude].map(f64::to_radians);
        let half = (north / 2.0).sin().powi(2) + from.cos() * to.cos() * (east / 2.0).sin().powi(2);
        2.0 * EARTH * half.sqrt().min(1.0).asin() <= self.distance
    }
}

fn kilometres(unit: &str) -> Result<f64, Fault> {
    let unit = unit.strip_prefix(UCUM).unwrap_or(unit);
    let known = octofhir_ucum::get_canonical_units(unit).ok().filter(|it| it.unit == "m");
    let metres = known.map(|it| it.factor.to_f64());
    metres.map(|metres| metres / 1_000.0).ok_or_else(|| "its unit is not one of length".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_measured_on_the_sphere() {
        let near = |text| NearSought::parse(text).expect("a place").matches(35.68, 139.69);

        assert!(near("35.44|139.64|30|km") && !near("35.44|139.64|20|km"));
        assert!(near("35.44|139.64|20|[mi_us]") && near("35.44|139.64"));
        assert!(NearSought::parse("95|0").is_err() && NearSought::parse("1").is_err());
        assert!(NearSought::parse("1|1|5|kg").is_err());
    }
}
