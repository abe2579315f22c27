//! This module chooses wrong variants of critical lines at run time, so that the tests can be
//! tested: one build with the feature `mutants` holds all of them, and `CHARTMESH_MUTANT` names
//! the one that lives.

/// Whether the wrong variant of this name is to be taken. Always false without the feature.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn mutant(_name: &str) -> bool {
    false
}

/// Whether the wrong variant of this name is to be taken.
#[cfg(feature = "mutants")]
#[must_use]
pub fn mutant(name: &str) -> bool {
    static LIVING: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let living = LIVING.get_or_init(|| std::env::var("CHARTMESH_MUTANT").ok());
    living.as_deref() == Some(name)
}
