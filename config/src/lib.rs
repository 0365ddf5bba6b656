//! Both of Sluice's YAML files as typed models: the system file ([`System`]) and the policy file ([`Policy`]).
//!
//! Place: the first thing that happens to a configuration, offline in `sluice check` and in the daemon alike. A value of
//! these types exists only if its file is free of errors; every error of a file is reported at once, each with file,
//! line, column and where there is one the nearest valid name ([`Diagnostics`]).
//!
//! How a file becomes a model: `yaml` parses the text to a tree with positions, `decode` reads typed values out of the
//! tree, `system` and `policy` decode and then check what needs the whole model.
//!
//! Not here: what rules mean for a packet (the compiler and the engine), and reading the state of the machine.

pub mod addr;
mod decode;
pub mod diagnostics;
pub mod policy;
pub mod rate;
pub mod schema;
pub mod source;
pub mod system;
mod yaml;

pub use addr::{IpPrefix, IpRange};
pub use decode::nearest;
pub use diagnostics::{Diagnostic, Diagnostics, Severity, ValueError};
pub use policy::{Policy, PolicySource, ReadTimes};
pub use rate::{Rate, RateUnit};
pub use source::{Span, Spanned};
pub use system::{InterfaceNames, System};
