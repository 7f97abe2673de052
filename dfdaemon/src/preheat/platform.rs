//! What this host's images run on, in the words of the OCI image index: those of Go, `GOOS` and `GOARCH`.

/// `os/architecture` of this host, such as `linux/amd64`.
pub(crate) fn platform() -> String {
    in_words(std::env::consts::OS, std::env::consts::ARCH)
}

/// From Rust's words; a name that both have is left as it is.
fn in_words(os: &str, architecture: &str) -> String {
    let os = match os {
        "macos" => "darwin",
        same => same,
    };
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        same => same,
    };
    format!("{os}/{architecture}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_the_words_of_the_image_index() {
        let power = if cfg!(target_endian = "little") { "ppc64le" } else { "ppc64" };
        for (architecture, word) in [
            ("x86_64", "amd64"),
            ("aarch64", "arm64"),
            ("arm", "arm"),
            ("x86", "386"),
            ("powerpc64", power),
            ("riscv64", "riscv64"),
            ("s390x", "s390x"),
            ("loongarch64", "loong64"),
        ] {
            assert_eq!(in_words("linux", architecture), format!("linux/{word}"));
        }
        assert_eq!(in_words("macos", "aarch64"), "darwin/arm64");
    }
}
