//! The picture as text, whole: for scripts and notes.

use super::model::Model;
use super::text::{self, Shape};
use crate::table::table;
use std::io::{self, Write};

pub(super) fn write(model: &Model, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", text::head(model))?;
    if let Some(trouble) = text::trouble(model) {
        writeln!(out, "{trouble}")?;
    }
    writeln!(out)?;
    write_table(&text::SUMS, &[text::sums(model)], out)?;
    writeln!(out, "\n{}", text::rollouts_title(model))?;
    let under_way = model.under_way.iter().map(text::under_way);
    let rollouts: Vec<Vec<String>> = under_way.chain(model.ended.iter().map(text::ended)).collect();
    write_table(&text::ROLLOUTS, &rollouts, out)?;
    writeln!(out, "\n{}", text::hosts_title(model, &(0..model.hosts.len())))?;
    let hosts: Vec<Vec<String>> = model.hosts.iter().map(|line| text::host(line, &model.asked)).collect();
    write_table(&text::HOSTS, &hosts, out)
}

fn write_table(shape: &Shape, rows: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    table(out, &shape.heads(), shape.words, rows)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_picture() {
        let mut out = Vec::new();
        write(&samples::model(), &mut out).unwrap();
        let expected = "\
2026-01-01T00:00:10Z  3 hosts  scheduler up  origin share 29.4 %

   ORIGIN     FALLBACK  SAME RACK  SAME ZONE  ELSEWHERE      CACHE   UPLOADED
2.0 MiB/s  512.0 KiB/s  4.0 MiB/s  2.0 MiB/s    100 B/s  1.0 MiB/s  4.0 MiB/s

rollouts: 1 under way, 2 ended
BLOB                 REGISTRY   SOURCE                 SIZE  COMPLETE              TRANSFERS  SECONDS  BOUND    ENDED
sha256:cccccccccccc  docker.io  00000000000000aa  100.0 MiB       1/4  ██░░░░░░░░          3      3.0  1.20x        -
sha256:ffffffffffff  ghcr.io    -                   1.0 KiB       2/2  ██████████          -      0.5      -  12s ago
sha256:eeeeeeeeeeee  ghcr.io    -                   5.0 MiB     40/40  ██████████          -      4.0  2.00x   3m ago

hosts: 3, most from peers first
HOST               ADDRESS        ZONE  RACK  FROM PEERS     ORIGIN     FALLBACK   UPLOADED      CACHE  UPS  DOWNS  TOTAL DOWN  TOTAL UP
00000000000000bb   10.0.0.1:6502  z1    r1     6.0 MiB/s          0            0          0          0    2      1     7.0 MiB         -
00000000000000aa*  10.0.0.1:6502  z1    r1             0  2.0 MiB/s  512.0 KiB/s  4.0 MiB/s  1.0 MiB/s    2      1     3.5 MiB   4.0 MiB
00000000000000cc   10.0.0.1:6502  z1    r1             -          -            -          -          -    2      1           -         -
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
