//! Tests of a link without a server.
