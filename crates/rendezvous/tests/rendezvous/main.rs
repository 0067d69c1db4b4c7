//! The rendezvous through real sockets.

#[cfg(test)]
mod ends;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod introductions;
#[cfg(test)]
mod life;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod stalls;
#[cfg(test)]
mod streams;
