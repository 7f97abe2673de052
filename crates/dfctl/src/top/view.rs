//! Draws the model on a screen of any size: only what is visible is made into text.

use super::keys::{KEYS, SHORT, Show};
use super::model::Model;
use super::text::{self, Shape};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};

/// Between columns.
const GAP: u16 = 1;

/// From this height on there are titles, a blank line and the keys; below, the lines are for rows.
const ROOMY: u16 = 18;

/// Lines that are there at any height: the head, the sums and their heads, trouble, the heads of two tables.
const LINES_TIGHT: u16 = 6;

/// Those that a roomy screen has besides: two titles, a blank line, the keys.
const LINES_ROOMY: u16 = 4;

/// How wide the list of keys is, with its frame.
const KEYS_WIDTH: u16 = 64;

/// What some heads of columns mean, below the list of keys.
const LEGEND: [&str; 4] = [
    "/s              the mean of the last four seconds",
    "BOUND           how many times the least time that links allow",
    "UPS, DOWNS      transfers between hosts that are under way",
    "TOTAL           bytes since the host's start",
];

/// Styles by what they are for.
#[derive(Debug)]
pub(super) struct Look {
    head: Style,
    columns: Style,
    trouble: Style,
    keys: Style,
}

impl Look {
    pub(super) const fn coloured() -> Self {
        Self {
            head: Style::new().add_modifier(Modifier::BOLD),
            columns: Style::new().fg(Color::Cyan),
            trouble: Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            keys: Style::new().fg(Color::DarkGray),
        }
    }

    /// For those who want no colours.
    pub(super) const fn colourless() -> Self {
        Self {
            head: Style::new().add_modifier(Modifier::BOLD),
            columns: Style::new().add_modifier(Modifier::BOLD),
            trouble: Style::new().add_modifier(Modifier::REVERSED),
            keys: Style::new(),
        }
    }
}

/// How the lines of a screen are shared out.
struct Heights {
    /// Lines for each title, for the blank line, and for the keys.
    extra: usize,
    under_way: usize,
    ended: usize,
    hosts: usize,
}

impl Heights {
    /// Rollouts have half of the rows, or what the hosts leave; of these, those that ended have a third, or what the others
    /// leave.
    fn of(height: u16, model: &Model) -> Self {
        let extra = height >= ROOMY;
        let lines = LINES_TIGHT + if extra { LINES_ROOMY } else { 0 };
        let rows = usize::from(height.saturating_sub(lines));
        let rollouts = (rows / 2).max(rows.saturating_sub(model.hosts.len()));
        let left = rollouts.saturating_sub(model.under_way.len());
        let ended = model.ended.len().min(left.max(rollouts / 3));
        let under_way = model.under_way.len().min(rollouts - ended);
        Self { extra: usize::from(extra), under_way, ended, hosts: rows - under_way - ended }
    }
}

/// How many hosts are visible on a screen of this height.
pub(super) fn page(height: u16, model: &Model) -> usize {
    Heights::of(height, model).hosts
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, show: &Show, look: &Look) {
    let mut rest = frame.area();
    let heights = Heights::of(rest.height, model);
    let paused = if show.paused { "paused  " } else { "" };
    line(frame, take(&mut rest, 1), format!("{paused}{}", text::head(model)), look.head);
    table(frame, take(&mut rest, 2), &text::SUMS, &[text::sums(model)], None, look);
    let trouble = take(&mut rest, 1);
    if let Some(text) = text::trouble(model) {
        line(frame, trouble, text, look.trouble);
    }
    line(frame, take(&mut rest, heights.extra), text::rollouts_title(model), look.head);
    let under_way = model.under_way.iter().take(heights.under_way).map(text::under_way);
    let ended = model.ended.iter().take(heights.ended).map(text::ended);
    let rollouts: Vec<Vec<String>> = under_way.chain(ended).collect();
    table(frame, take(&mut rest, 1 + rollouts.len()), &text::ROLLOUTS, &rollouts, None, look);
    take(&mut rest, heights.extra);
    let past = show.past.min(model.hosts.len().saturating_sub(heights.hosts));
    let shown = past..model.hosts.len().min(past + heights.hosts);
    line(frame, take(&mut rest, heights.extra), text::hosts_title(model, &shown), look.head);
    let hosts: Vec<Vec<String>> =
        model.hosts[shown].iter().map(|line| text::host(line, &model.asked)).collect();
    let ordered_by = Some(text::ordered_by(model.order));
    table(frame, take(&mut rest, 1 + heights.hosts), &text::HOSTS, &hosts, ordered_by, look);
    line(frame, take(&mut rest, heights.extra), SHORT.to_owned(), look.keys);
    if show.keys {
        keys(frame);
    }
}

/// The upper lines of what is left, as far as there are any.
fn take(rest: &mut Rect, lines: usize) -> Rect {
    let height = u16::try_from(lines).unwrap_or(u16::MAX).min(rest.height);
    let taken = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    taken
}

fn line(frame: &mut Frame<'_>, area: Rect, text: String, style: Style) {
    frame.render_widget(Line::styled(text, style), area);
}

/// As many of the columns as there is room for; the one that orders the rows is underlined.
fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    shape: &Shape,
    rows: &[Vec<String>],
    ordered_by: Option<usize>,
    look: &Look,
) {
    let widths = shape.widths(rows);
    let kept = shape.kept(&widths, GAP, area.width);
    let heads = kept.iter().map(|&i| {
        let mark = if ordered_by == Some(i) { Modifier::UNDERLINED } else { Modifier::empty() };
        cell(shape, i, shape.columns[i].head).style(look.columns.add_modifier(mark))
    });
    let rows = rows.iter().map(|row| Row::new(kept.iter().map(|&i| cell(shape, i, &row[i]))));
    let table = Table::new(rows, kept.iter().map(|&i| Constraint::Length(widths[i])))
        .header(Row::new(heads))
        .column_spacing(GAP);
    frame.render_widget(table, area);
}

/// Words to the left, numbers to the right.
fn cell<'a>(shape: &Shape, column: usize, text: &'a str) -> Cell<'a> {
    let text = Text::raw(text);
    Cell::new(if column < shape.words { text } else { text.right_aligned() })
}

/// The list of keys, over the middle of the picture.
fn keys(frame: &mut Frame<'_>) {
    let keys = KEYS.iter().map(|(key, does)| Line::from(format!("{key:<19} {does}")));
    let legend = LEGEND.iter().map(|text| Line::from(*text));
    let lines: Vec<Line<'_>> = keys.chain([Line::default()]).chain(legend).collect();
    let all = frame.area();
    let width = KEYS_WIDTH.min(all.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(all.height);
    let (x, y) = (all.x + (all.width - width) / 2, all.y + (all.height - height) / 2);
    let area = Rect { x, y, width, height };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("keys")), area);
}

#[cfg(test)]
mod tests {
    use super::super::model::Order;
    use super::super::samples::{self, at, blob, host, status};
    use super::*;
    use crate::Error;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    fn drawn(width: u16, height: u16, model: &Model, show: &Show, look: &Look) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, show, look)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn lines(buffer: &Buffer) -> Vec<String> {
        let lines = buffer.content.chunks(usize::from(buffer.area.width));
        lines
            .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    fn picture(width: u16, height: u16, model: &Model, show: &Show) -> Vec<String> {
        lines(&drawn(width, height, model, show, &Look::coloured()))
    }

    /// So many hosts, whose ids are their numbers, and so many rollouts.
    fn many(hosts: u32, blobs: u32) -> Model {
        let hosts: Vec<_> = (0..hosts).map(|i| host(&format!("{i:016}"), [0; 7])).collect();
        let blobs: Vec<_> = (0..blobs).map(|_| blob('a', 1, 1)).collect();
        Model::new(status(&hosts, &blobs), at(0))
    }

    #[test]
    fn a_whole_picture() {
        let expected = "\
2026-01-01T00:00:10Z  3 hosts  scheduler up  origin share 29.4 %
      ORIGIN     FALLBACK    SAME RACK    SAME ZONE    ELSEWHERE        CACHE     UPLOADED
   2.0 MiB/s  512.0 KiB/s    4.0 MiB/s    2.0 MiB/s      100 B/s    1.0 MiB/s    4.0 MiB/s

rollouts: 1 under way, 2 ended
BLOB                REGISTRY  SOURCE                 SIZE    COMPLETE            TRANSFERS SECONDS  BOUND    ENDED
sha256:cccccccccccc docker.io 00000000000000aa  100.0 MiB         1/4 ██░░░░░░░░         3     3.0  1.20x        -
sha256:ffffffffffff ghcr.io   -                   1.0 KiB         2/2 ██████████         -     0.5      -  12s ago
sha256:eeeeeeeeeeee ghcr.io   -                   5.0 MiB       40/40 ██████████         -     4.0  2.00x   3m ago

hosts: 3, most from peers first
HOST              ADDRESS       ZONE RACK   FROM PEERS       ORIGIN     FALLBACK     UPLOADED        CACHE   UPS DOWNS
00000000000000bb  10.0.0.1:6502 z1   r1      6.0 MiB/s            0            0            0            0     2     1
00000000000000aa* 10.0.0.1:6502 z1   r1              0    2.0 MiB/s  512.0 KiB/s    4.0 MiB/s    1.0 MiB/s     2     1
00000000000000cc  10.0.0.1:6502 z1   r1              -            -            -            -            -     2     1














q quit  d down  u up  o origin  i id  p pause  ? keys";
        let all = picture(120, 30, &samples::model(), &Show::default());
        assert_eq!(all.join("\n"), expected);
    }

    #[test]
    fn a_small_screen_has_what_matters_most() {
        let expected = "\
2026-01-01T00:00:10Z  3 hosts  scheduler
      ORIGIN    SAME RACK    SAME ZONE
   2.0 MiB/s    4.0 MiB/s    2.0 MiB/s

BLOB                   COMPLETE SECONDS
sha256:cccccccccccc         1/4     3.0
sha256:ffffffffffff         2/2     0.5
HOST                FROM PEERS
00000000000000bb     6.0 MiB/s
00000000000000aa*            0";
        let all = picture(40, 10, &samples::model(), &Show::default());
        assert_eq!(all.join("\n"), expected);
    }

    #[test]
    fn no_size_is_too_small() {
        let shows = [Show::default(), Show { past: 7, paused: true, keys: true }];
        let models = [samples::model(), many(0, 0), many(4096, 4096)];
        for (width, height) in [(40, 10), (20, 5), (1, 1), (3, 2), (200, 1), (1, 60), (80, 24), (300, 100)] {
            for (show, model) in shows.iter().flat_map(|show| models.iter().map(move |model| (show, model))) {
                let all = picture(width, height, model, show);
                assert_eq!(all.len(), usize::from(height));
            }
        }
    }

    #[test]
    fn silence_is_red_and_the_picture_stays() {
        let mut model = samples::model();
        model.failed(&Error::Unexpected("broken\nin two".to_owned()), at(12).clock);
        let buffer = drawn(120, 30, &model, &Show::default(), &Look::coloured());
        let all = lines(&buffer);
        assert_eq!(all[3], "no answer since 2026-01-01T00:00:12Z: unexpected answer: brokenin two");
        assert_eq!(buffer[(0, 3)].fg, Color::Red);
        assert!(all[12].starts_with("00000000000000bb "), "{all:#?}");
        let buffer = drawn(120, 30, &model, &Show::default(), &Look::colourless());
        assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        assert!(buffer[(0, 3)].modifier.contains(Modifier::REVERSED));
    }

    #[test]
    fn the_order_is_marked() {
        let mut model = samples::model();
        model.sort(Order::Id);
        let buffer = drawn(120, 30, &model, &Show::default(), &Look::coloured());
        let heads = &buffer.content[11 * 120..12 * 120];
        let marked = heads.iter().filter(|cell| cell.modifier.contains(Modifier::UNDERLINED));
        assert_eq!(marked.map(|cell| cell.symbol()).collect::<String>().trim_end(), "HOST");
    }

    #[test]
    fn scrolling_and_sharing_out() {
        let model = many(300, 40);
        // 20 rows: half are for the blobs.
        assert_eq!(page(30, &model), 10);
        let show = Show { past: 20, ..Show::default() };
        let all = picture(120, 30, &model, &show);
        assert_eq!(all[17], "hosts 21 to 30 of 300, most from peers first");
        assert!(
            all[19].starts_with("0000000000000020 ") && all[28].starts_with("0000000000000029 "),
            "{all:#?}"
        );
        let show = Show { past: 4000, paused: true, ..Show::default() };
        let all = picture(120, 30, &model, &show);
        assert!(all[0].starts_with("paused  2026-") && all[28].starts_with("0000000000000299 "), "{all:#?}");
        assert_eq!(page(30, &many(300, 0)), 20);
        assert_eq!(page(5, &model), 0);
    }

    #[test]
    fn the_list_of_keys_is_whole() {
        let show = Show { keys: true, ..Show::default() };
        let all = picture(80, 24, &samples::model(), &show).join("\n");
        for text in KEYS.iter().flat_map(|(key, does)| [key, does]).chain(&LEGEND) {
            assert!(all.contains(text), "{text}: {all}");
        }
    }
}
