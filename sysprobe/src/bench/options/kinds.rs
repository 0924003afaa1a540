//! Values with a grammar of their own: ranges of sizes, engines, distributions and patterns.

use super::super::values::{BlockRange, Distribution, JobEngine};
use super::value::Value;
use crate::io::EngineName;

pub(super) fn block_range(value: &Value<'_>) -> Result<Option<BlockRange>, String> {
    let text = value.text()?;
    let (one, other) = text
        .split_once(['-', ':'])
        .ok_or_else(|| format!("'{text}' is no range; allowed is 4k-64k"))?;
    let size = |text| {
        Value {
            text: Some(text),
            ..*value
        }
        .size_at_least(1)
    };
    let (one, other) = (size(one)?, size(other)?);
    Ok(Some(BlockRange {
        least_bytes: one.min(other),
        most_bytes: one.max(other),
    }))
}

pub(super) fn engine(value: &Value<'_>) -> Result<JobEngine, String> {
    let name = value.text()?;
    if let Some(engine) = EngineName::from_name(name) {
        return Ok(JobEngine::Io(engine));
    }
    if value.workloads.contains(&name) {
        return Ok(JobEngine::Workload(name.to_owned()));
    }
    let blocks = EngineName::ALL.iter().map(|engine| engine.name());
    let names: Vec<&str> = blocks.chain(value.workloads.iter().copied()).collect();
    Err(format!(
        "there is no such engine; allowed is {}",
        names.join(", ")
    ))
}

/// fio's defaults of the exponents hold where none is given.
pub(super) fn distribution(text: &str) -> Result<Distribution, String> {
    const THETA_DEFAULT: f64 = 1.1;
    const H_DEFAULT: f64 = 0.2;
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    if !["random", "zipf", "pareto", "normal"].contains(&name) {
        return Err("allowed is random, zipf, pareto, normal; zoned is not supported".to_owned());
    }
    let mut number = |what: &str| match parts.next() {
        None => Ok(None),
        Some(part) => match part.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(format!("{what} '{part}' is no number")),
        },
    };
    let parameter = number("the parameter")?;
    let center = number("the center")?;
    if center.is_some_and(|center| !(0.0..=1.0).contains(&center)) {
        return Err("the center is a share of the file, from 0 to 1".to_owned());
    }
    let distribution = match name {
        "random" if parameter.is_none() => Distribution::Random,
        "zipf" => {
            let theta = parameter.unwrap_or(THETA_DEFAULT);
            if theta <= 0.0 || theta == 1.0 {
                return Err("theta is above 0 and not 1".to_owned());
            }
            Distribution::Zipf { theta, center }
        }
        "pareto" => {
            let h = parameter.unwrap_or(H_DEFAULT);
            if h <= 0.0 || h >= 1.0 {
                return Err("h lies between 0 and 1".to_owned());
            }
            Distribution::Pareto { h, center }
        }
        "normal" => {
            let deviation_percent = parameter.unwrap_or(0.0);
            if !(0.0..100.0).contains(&deviation_percent) {
                return Err("the deviation is a percentage from 0, below 100".to_owned());
            }
            Distribution::Normal {
                deviation_percent,
                center,
            }
        }
        _ => return Err("random takes no parameter".to_owned()),
    };
    if parts.next().is_some() {
        return Err("too many colons".to_owned());
    }
    Ok(distribution)
}

/// Bytes of a pattern: text in quotes, hexadecimal digits, or a decimal number with its lowest byte first, as in fio.
pub(super) fn pattern(text: &str) -> Result<Vec<u8>, String> {
    const SIZE_MAX: usize = 512;
    let bad = || {
        format!(
            "'{text}' is no pattern; allowed is 0x and hexadecimal digits, a number, or \"text\""
        )
    };
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let bytes = if let Some(quoted) = quoted {
        quoted.as_bytes().to_vec()
    } else if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // An odd number of digits begins with half a byte.
        let padded = if digits.len() % 2 == 1 {
            format!("0{digits}")
        } else {
            digits.to_owned()
        };
        let pairs = padded.as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            u8::from_str_radix(pair, 16).map_err(|_| bad())
        };
        pairs.map(byte).collect::<Result<Vec<u8>, String>>()?
    } else {
        let number: i64 = text.parse().map_err(|_| bad())?;
        let bytes = number.to_le_bytes();
        let used = 8 - (number.unsigned_abs().leading_zeros() / 8) as usize;
        bytes.into_iter().take(used.max(1)).collect()
    };
    if bytes.is_empty() || bytes.len() > SIZE_MAX {
        return Err(format!("a pattern has 1 to {SIZE_MAX} bytes"));
    }
    Ok(bytes)
}
