//! What the demo can be told.

use bytesize::ByteSize;
use clap::Parser;

/// Pulls one image on several nodes at once, through an origin that serves it once.
///
/// Starts an origin registry, a scheduler and the nodes' daemons on loopback, as separate processes with separate
/// directories under one temporary directory, which is removed at the end. Needs no root.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
pub struct Args {
    /// How many nodes pull the image, 1 to 50.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub nodes: u8,

    /// The size of the image, all layers together, 1 MiB to 4 GiB.
    #[arg(long, default_value = "96MiB", value_parser = size)]
    pub image_size: ByteSize,

    /// How many layers the image has, 1 to 50.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub layers: u8,

    /// The rate of every node, each way, per second: 64 KiB to 1 GiB.
    #[arg(long, default_value = "16MiB", value_parser = rate)]
    pub rate: ByteSize,

    /// The rate of the origin, per second; that of a node if it is not given.
    #[arg(long, value_parser = rate)]
    pub origin_rate: Option<ByteSize>,

    /// Determines the image's bytes.
    #[arg(long, default_value_t = 1)]
    pub seed: u32,

    /// Prints one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}

fn size(text: &str) -> Result<ByteSize, String> {
    between(text, ByteSize::mib(1), ByteSize::gib(4))
}

fn rate(text: &str) -> Result<ByteSize, String> {
    between(text, ByteSize::kib(64), ByteSize::gib(1))
}

fn between(text: &str, least: ByteSize, most: ByteSize) -> Result<ByteSize, String> {
    let value: ByteSize = text.parse()?;
    if least <= value && value <= most { Ok(value) } else { Err(format!("not between {least} and {most}")) }
}

impl Args {
    /// Bytes per second of the origin.
    #[must_use]
    pub fn origin_rate(&self) -> u64 {
        self.origin_rate.unwrap_or(self.rate).as_u64()
    }

    /// The layers' sizes in bytes: the first is the largest, as in most images.
    #[must_use]
    pub fn layer_sizes(&self) -> Vec<u64> {
        let weights = (1..=u64::from(self.layers)).rev();
        let sum: u64 = weights.clone().sum();
        weights.map(|weight| (self.image_size.as_u64() * weight / sum).max(1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_add_up_and_limits_hold() {
        let args = Args::parse_from(["demo", "--image-size", "10MiB", "--layers", "4"]);
        let sizes = args.layer_sizes();
        assert_eq!(sizes.len(), 4);
        assert!((10 * 1024 * 1024 - 4..=10 * 1024 * 1024).contains(&sizes.iter().sum::<u64>()));
        for wrong in [["--nodes", "0"], ["--image-size", "1KiB"], ["--rate", "1GB/s"], ["--rate", "2TiB"]] {
            assert!(Args::try_parse_from(["demo"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
