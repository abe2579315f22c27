//! This module compares feeds that are not held equally far: by the chain hashes at places that both
//! nodes hold, for which it asks them.
//!
//! Feeds that differ at one place differ at all later ones, because each hash is made over the last:
//! so the first difference is found by halving.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chartmesh_node::Operator;
use chartmesh_record::{Origin, Seq};
use futures::future::join_all;

use super::difference::{Difference, Place, fork};

/// How long a node may take to say what the hash at a place is.
const PATIENCE: Duration = Duration::from_secs(3);

/// What each node holds of a feed, by its name.
type Held = BTreeMap<String, Place>;

/// Finds where one of these feeds is forked, if one is.
///
/// # Errors
/// A node does not say what it holds: then it is not known.
pub(crate) async fn find_fork(
    operator: &Operator,
    feeds: &BTreeMap<&str, Held>,
) -> anyhow::Result<Option<Difference>> {
    for (origin, held) in feeds {
        let Some((furthest, _)) = held.iter().max_by_key(|(_, place)| place.seq) else { continue };
        for (node, place) in held.iter().filter(|(_, place)| place.seq > 0) {
            if hash(operator, furthest, origin, place.seq).await? != place.hash {
                let seq = first_difference(place.seq, async |seq| {
                    let (one, other) = tokio::join!(
                        hash(operator, node, origin, seq),
                        hash(operator, furthest, origin, seq)
                    );
                    Ok(one? != other?)
                })
                .await?;
                return Ok(Some(fork(origin, seq, hashes(operator, held, origin, seq).await?)));
            }
        }
    }
    Ok(None)
}

/// The hashes of all nodes that hold a place.
async fn hashes(
    operator: &Operator,
    held: &Held,
    origin: &str,
    seq: u64,
) -> anyhow::Result<BTreeMap<String, String>> {
    let there = held.iter().filter(|(_, place)| place.seq >= seq).map(|(node, _)| node);
    let ask = async |node: &String| Ok((node.clone(), hash(operator, node, origin, seq).await?));
    join_all(there.map(ask)).await.into_iter().collect()
}

/// The chain hash of a feed at a place, at one node.
async fn hash(operator: &Operator, node: &str, origin: &str, seq: u64) -> anyhow::Result<String> {
    let name = node.parse().with_context(|| format!("node {node}"))?;
    let feed: Origin = origin.parse().with_context(|| format!("feed {origin}"))?;
    let asked = tokio::time::timeout(PATIENCE, operator.chain(&name, &feed, Seq(seq))).await;
    match asked.with_context(|| format!("{node} has not answered within {PATIENCE:?}"))?? {
        Some(link) => Ok(link.hash.to_string()),
        None => bail!("{node} does not hold change {seq} of {origin}"),
    }
}

/// The first place that differs, where the place `last` does and those that differ are all the later
/// ones.
async fn first_difference(
    last: u64,
    differs: impl AsyncFn(u64) -> anyhow::Result<bool>,
) -> anyhow::Result<u64> {
    let (mut same, mut differing) = (0, last);
    while differing - same > 1 {
        let middle = same + (differing - same) / 2;
        if differs(middle).await? {
            differing = middle;
        } else {
            same = middle;
        }
    }
    Ok(differing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_difference_is_found_wherever_it_is() {
        for last in 1..40_u64 {
            for first in 1..=last {
                let found = first_difference(last, async |seq| Ok(seq >= first)).await.unwrap();

                assert_eq!(found, first, "of {last}");
            }
        }
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_leaves_it_open() {
        let found = first_difference(9, async |_| bail!("it does not answer")).await;

        assert!(found.is_err());
    }
}
