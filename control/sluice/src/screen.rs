//! What is shown again and again: drawn over itself on a terminal, one block after the other where there is none.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, poll, read};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use tokio::task::spawn_blocking;

use crate::print::print_line;
use crate::{Failure, Outcome};

/// Where it is shown.
pub(crate) struct Screen {
    terminal: bool,
    drawn: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// It is time to draw again.
    Again,
    /// The user wants to leave.
    Quit,
}

impl Screen {
    /// The terminal, if standard input and output are one, until dropped. `plain` makes it none.
    pub(crate) fn open(plain: bool) -> Result<Screen, Failure> {
        let terminal = !plain && io::stdout().is_terminal() && io::stdin().is_terminal();
        let screen = Screen { terminal, drawn: false };
        if terminal {
            enable_raw_mode()?;
            execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        }
        Ok(screen)
    }

    /// Shows these lines; on a terminal as many, and as much of each, as there is room for. A line in capitals is a
    /// header.
    pub(crate) fn draw(&mut self, lines: &[String]) -> Outcome {
        if !self.terminal {
            if self.drawn {
                print_line("")?;
            }
            self.drawn = true;
            return lines.iter().try_for_each(|line| print_line(line));
        }
        let (columns, rows) = size()?;
        let mut out = io::stdout().lock();
        queue!(out, MoveTo(0, 0))?;
        for (row, line) in (0..rows).zip(lines) {
            let shown: String = line.chars().take(usize::from(columns)).collect();
            let weight = if is_header(&shown) { Attribute::Bold } else { Attribute::Reset };
            queue!(out, MoveTo(0, row), SetAttribute(weight), Print(shown))?;
            queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        if lines.len() < usize::from(rows) {
            queue!(out, MoveTo(0, lines.len() as u16), Clear(ClearType::FromCursorDown))?;
        }
        Ok(out.flush()?)
    }

    /// Waits until it is time to draw again, or the user leaves: `q`, Escape, or an interrupt.
    pub(crate) async fn wait(&self, time: Duration) -> Result<Refresh, Failure> {
        if self.terminal {
            let waiting = spawn_blocking(move || key_within(time));
            return Ok(waiting.await.map_err(|e| Failure::CouldNotAsk(e.to_string()))??);
        }
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(Refresh::Again),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted.map(|()| Refresh::Quit)?),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
            let _ = disable_raw_mode();
        }
    }
}

/// A number of seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("between 0.1 and 3600 seconds".into())
    }
}

/// Any key draws at once, a resized window too.
fn key_within(time: Duration) -> io::Result<Refresh> {
    if !poll(time)? {
        return Ok(Refresh::Again);
    }
    let quits = match read()? {
        Event::Key(KeyEvent { code: KeyCode::Char('q') | KeyCode::Esc, .. }) => true,
        Event::Key(KeyEvent { code: KeyCode::Char('c'), modifiers, .. }) => {
            modifiers.contains(KeyModifiers::CONTROL)
        }
        _ => false,
    };
    Ok(if quits { Refresh::Quit } else { Refresh::Again })
}

fn is_header(line: &str) -> bool {
    line.chars().any(char::is_alphabetic) && !line.chars().any(char::is_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "1e9", "NaN", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
