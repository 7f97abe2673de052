//! What the keys of `top` do.

use super::model::{Model, Order};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::ops::ControlFlow;

/// The keys, for the list that `?` shows.
pub(super) const KEYS: [(&str, &str); 8] = [
    ("d", "hosts by what they get from others"),
    ("u", "hosts by what they give to others"),
    ("o", "hosts by what they read from the origin"),
    ("i", "hosts by their ids"),
    ("arrows, PgUp, PgDn", "scroll the hosts; also Home, End"),
    ("p, space", "pause, and go on"),
    ("?, h", "show the keys, and hide them"),
    ("q, Esc, Ctrl-C", "quit"),
];

/// The keys in one line.
pub(super) const SHORT: &str = "q quit  d down  u up  o origin  i id  p pause  ? keys";

/// What the user wants to see.
#[derive(Debug, Default)]
pub(super) struct Show {
    /// How many hosts are scrolled past; the view stops at the last page by itself.
    pub(super) past: usize,
    /// The picture stays as it is.
    pub(super) paused: bool,
    /// The list of keys is over the picture.
    pub(super) keys: bool,
}

impl Show {
    /// A key, while `page` hosts are visible. Breaks when the program is to end.
    pub(super) fn press(&mut self, key: &KeyEvent, page: usize, model: &mut Model) -> ControlFlow<()> {
        if key.is_release() {
            return ControlFlow::Continue(());
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            let quit = key.code == KeyCode::Char('c');
            return if quit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        let last = model.hosts.len().saturating_sub(page);
        let past = self.past.min(last);
        self.past = match key.code {
            KeyCode::Up => past.saturating_sub(1),
            KeyCode::Down => past.saturating_add(1).min(last),
            KeyCode::PageUp => past.saturating_sub(page),
            KeyCode::PageDown => past.saturating_add(page).min(last),
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => past,
        };
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return ControlFlow::Break(()),
            KeyCode::Char('d') => model.sort(Order::Down),
            KeyCode::Char('u') => model.sort(Order::Up),
            KeyCode::Char('o') => model.sort(Order::Origin),
            KeyCode::Char('i') => model.sort(Order::Id),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.keys = !self.keys,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, host, status};
    use super::*;
    use crossterm::event::KeyEventKind;

    fn model(hosts: u32) -> Model {
        let hosts: Vec<_> = (0..hosts).map(|i| host(&format!("{i:04}"), [0; 7])).collect();
        Model::new(status(&hosts, &[]), at(0))
    }

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn scrolling_ends_at_both_ends() {
        let mut model = model(25);
        let mut show = Show::default();
        let steps = [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 11),
            (KeyCode::PageDown, 15),
            (KeyCode::Down, 15),
            (KeyCode::Up, 14),
            (KeyCode::PageUp, 4),
            (KeyCode::PageUp, 0),
            (KeyCode::End, 15),
            (KeyCode::Home, 0),
        ];
        for (code, expected) in steps {
            assert!(show.press(&key(code), 10, &mut model).is_continue());
            assert_eq!(show.past, expected, "{code:?}");
        }
        // Fewer hosts than before, or no room for one.
        show.past = 4000;
        assert!(show.press(&key(KeyCode::Up), 10, &mut model).is_continue());
        assert_eq!(show.past, 14);
        assert!(show.press(&key(KeyCode::PageDown), 0, &mut model).is_continue());
        assert!(show.press(&key(KeyCode::PageDown), 1000, &mut model).is_continue());
        assert_eq!(show.past, 0);
    }

    #[test]
    fn switches() {
        let mut model = model(1);
        let mut show = Show::default();
        for (code, order) in [('u', Order::Up), ('o', Order::Origin), ('i', Order::Id), ('d', Order::Down)] {
            assert!(show.press(&key(KeyCode::Char(code)), 10, &mut model).is_continue());
            assert_eq!(model.order, order);
        }
        for (pause, keys) in [('p', '?'), (' ', 'h'), ('p', 'h'), (' ', '?')] {
            let before = show.paused;
            assert!(show.press(&key(KeyCode::Char(pause)), 10, &mut model).is_continue());
            assert!(show.press(&key(KeyCode::Char(keys)), 10, &mut model).is_continue());
            assert_eq!((show.paused, show.keys), (!before, !before));
        }
    }

    #[test]
    fn ways_out() {
        let mut model = model(1);
        let mut show = Show::default();
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        for out in [key(KeyCode::Char('q')), key(KeyCode::Esc), control('c')] {
            assert!(show.press(&out, 10, &mut model).is_break(), "{out:?}");
        }
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        for stay in [key(KeyCode::Char('c')), control('q'), released, key(KeyCode::Tab)] {
            assert!(show.press(&stay, 10, &mut model).is_continue(), "{stay:?}");
        }
    }
}
