//! What the repository needs beside the product: the house rules as a check, the runs with stock peers, the figures.
//!
//! In flows the checkout, out flow findings, PASS and FAIL lines, or a table. Nothing of the product depends on this
//! crate.

pub mod bench;
pub mod build;
pub mod child;
pub mod durable;
pub mod interop;
pub mod load;
pub mod model;
pub mod plane;
pub mod report;
pub mod rolling;
pub mod rpc;
pub mod soak;
pub mod stock;
pub mod tidy;
pub mod units;
