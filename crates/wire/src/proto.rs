//! This module holds what is generated from `proto/chartmesh/v1`: messages, clients and servers.

#![expect(missing_docs, reason = "the definitions are documented where they are written")]
#![expect(
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code is as it is"
)]

tonic::include_proto!("chartmesh.v1");
