//! This module judges that no client is told what its wish does not allow for.

use crate::history::{Evidence, Told};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    evidence
        .operations
        .iter()
        .filter_map(|operation| match operation.told()? {
            Told::Unexpected(what) => Some(format!("{:?}: {what}", operation.mark)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Wish;
    use crate::invariants::fixture::{evidence, operation, register};

    #[test]
    fn an_internal_error_is_a_violation() {
        let told = Told::Unexpected("500".to_owned());
        let read = operation("m", Wish::Read(register("r")), (0, 1), told);

        assert_eq!(check(&evidence(vec![read], &[])).len(), 1);
    }
}
