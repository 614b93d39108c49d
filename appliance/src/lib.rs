#![forbid(unsafe_code)]
//! The appliance: everything around the kernels.
