//! Which machine this is.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// What tells machines apart, without saying anything of them that is not needed. How many cores a process may use is no
/// part of it: a container's limit or `taskset` changes that, and the machine stays what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// A hash of the system's machine id, or of the host name where there is none.
    pub id: String,
    /// The processor's model, as far as the system tells.
    pub processor: String,
}

impl Machine {
    /// The machine that this runs on.
    pub fn this() -> Self {
        let read = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let name = read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname"));
        // The id itself is not to be given away (machine-id(5)).
        let id = format!(
            "{:016x}",
            xxh3_64(format!("moonshine {}", name.unwrap_or_default()).as_bytes())
        );
        Machine {
            id,
            processor: read("/proc/cpuinfo")
                .and_then(|text| model(&text))
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}", self.id, self.processor)
    }
}

/// The model that `/proc/cpuinfo` names first.
fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, model) = line.split_once(':')?;
    Some(model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_itself() {
        assert_eq!(Machine::this(), Machine::this());
        assert_eq!(Machine::this().id.len(), 16);
    }

    #[test]
    fn the_model_is_the_first_processors() {
        let text = "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nmodel name\t: other\n";
        assert_eq!(model(text).as_deref(), Some("Fast CPU @ 3 GHz"));
        assert_eq!(model("BogoMIPS: 50\n"), None);
    }
}
