//! The registry through real sockets, on real directories.

#[cfg(test)]
mod access;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod direct;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod ended;
#[cfg(test)]
mod environment;
#[cfg(test)]
mod events;
#[cfg(test)]
mod issuer;
#[cfg(test)]
mod join;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod register;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod v1;
#[cfg(test)]
mod workloads;
