//! This module answers `$meta`, `$meta-add` and `$meta-delete` (FHIR R4, resource-operation-meta). Added
//! and deleted are versions of their own: a node has no other way to tell the others.

use bytes::Bytes;
use chartmesh_record::{FieldName, Tree};

use crate::answer::Answer;

/// What `meta` says, instead of the resource that an answer holds.
pub(crate) fn answer(answer: Answer) -> Answer {
    let Some(stored) = answer.resource_bytes() else { return answer };
    let tree = Tree::parse(stored);
    let meta = tree.as_ref().and_then(|tree| tree.root().member(&FieldName::new("meta")));
    let meta = meta.map_or("{}", |meta| meta.source());
    let parameters = format!(
        r#"{{"resourceType":"Parameters","parameter":[{{"name":"return","valueMeta":{meta}}}]}}"#
    );
    answer.instead(Bytes::from(parameters))
}
