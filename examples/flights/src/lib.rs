//! All flights that left New York in 2013: joined with weather and planes, grouped, and a forest that tells which will be late.

mod groups;
mod join;
mod model;
mod plot;

pub use groups::{by_carrier, by_hour, gather, months};
pub use join::join;
pub use model::{Forest, Halves, sample, score, train};
pub use plot::{plot_carriers, plot_hours};

/// A flight is late when it lands so many minutes behind its schedule, or more.
const LATE: f64 = 15.0;
