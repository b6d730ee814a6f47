//! Amazon S3, and servers that speak its protocol, as a store.
