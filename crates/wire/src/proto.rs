//! This module holds what is generated from `proto/chartmesh/v1`: messages, clients and servers.

#![expect(missing_docs, reason = "the definitions are documented where they are written")]

tonic::include_proto!("chartmesh.v1");
