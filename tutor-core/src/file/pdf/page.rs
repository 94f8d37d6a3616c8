//! The text of one page, in the order in which it is drawn, with lines and words apart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use lopdf::content::{Content, Operation};
use lopdf::{Document, Encoding, Object, ObjectId};

/// The most bytes that the description of a font's letters may grow to.
const MAX_FONT_BYTES: usize = 1 << 20;

/// Drawing operations of a page whose state is remembered at a time.
const MAX_STATES: usize = 64;

/// How wide a letter is, about, as a part of its size.
const LETTER: f64 = 0.5;

/// From which gap on there is a space, and from which height on another line, as a part of the size.
const SPACE: f64 = 0.2;
const LINE: f64 = 0.3;

/// From which gap between two letters of one text on there is a space, in thousandths of the size.
const GAP: f64 = 200.0;

/// Text that grows to a bound.
pub(super) struct Text {
    text: String,
    max_bytes: usize,
}

impl Text {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            text: String::new(),
            max_bytes,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= self.max_bytes
    }

    fn push(&mut self, more: &str) {
        for c in more.chars() {
            if self.text.len() + c.len_utf8() > self.max_bytes {
                // From now on nothing fits.
                self.max_bytes = self.text.len();
                return;
            }
            match c {
                c if c.is_whitespace() => self.space(),
                c if c.is_control() => {}
                c => self.text.push(c),
            }
        }
    }

    fn space(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(char::is_whitespace) && !self.is_full() {
            self.text.push(' ');
        }
    }

    fn line(&mut self) {
        self.trim();
        if !self.text.is_empty() && !self.text.ends_with('\n') && !self.is_full() {
            self.text.push('\n');
        }
    }

    pub(super) fn end_page(&mut self) {
        self.line();
        if self.text.ends_with('\n') && !self.text.ends_with("\n\n") && !self.is_full() {
            self.text.push('\n');
        }
    }

    fn trim(&mut self) {
        let length = self.text.trim_end_matches(' ').len();
        self.text.truncate(length);
    }

    pub(super) fn finish(self) -> String {
        self.text.trim().to_owned()
    }
}

/// A matrix as PDF writes it.
type Matrix = [f64; 6];

const IDENTITY: Matrix = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

fn product([a, b, c, d, e, f]: Matrix, m: Matrix) -> Matrix {
    [
        a * m[0] + b * m[2],
        a * m[1] + b * m[3],
        c * m[0] + d * m[2],
        c * m[1] + d * m[3],
        e * m[0] + f * m[2] + m[4],
        e * m[1] + f * m[3] + m[5],
    ]
}

/// Where the pen is.
struct Pen<'a> {
    page: Matrix,
    saved: Vec<Matrix>,
    line: Matrix,
    /// How far the text of this line has come since it began.
    advance: f64,
    leading: f64,
    size: f64,
    encoding: Option<&'a Encoding<'a>>,
    /// Where the last text ended, and how large it was.
    last: Option<(f64, f64)>,
}

impl Pen<'_> {
    fn new() -> Self {
        Self {
            page: IDENTITY,
            saved: Vec::new(),
            line: IDENTITY,
            advance: 0.0,
            leading: 0.0,
            size: 1.0,
            encoding: None,
            last: None,
        }
    }

    fn shift(&mut self, x: f64, y: f64) {
        self.line = product([1.0, 0.0, 0.0, 1.0, x, y], self.line);
        self.advance = 0.0;
    }

    /// Where text is drawn now, and its height there.
    fn place(&self) -> (f64, f64, f64) {
        let at = product(self.line, self.page);
        let (x, y) = (at[4] + self.advance * at[0], at[5] + self.advance * at[1]);
        let height = self.size * at[2].hypot(at[3]);
        (x, y, if height > 0.0 { height } else { 1.0 })
    }

    /// Says in the text what lies between the last piece and this one.
    fn arrive(&mut self, text: &mut Text) {
        let (x, y, height) = self.place();
        if let Some((last_x, last_y)) = self.last {
            if (y - last_y).abs() > LINE * height {
                text.line();
            } else if x - last_x > SPACE * height || x + height < last_x {
                text.space();
            }
        }
    }

    fn draw(&mut self, bytes: &[u8], text: &mut Text) {
        let Some(encoding) = self.encoding else {
            return;
        };
        let Ok(decoded) = Document::decode_text(encoding, bytes) else {
            return;
        };
        self.arrive(text);
        text.push(&decoded);
        let letters = u32::try_from(decoded.chars().count()).unwrap_or(u32::MAX);
        self.advance += f64::from(letters) * LETTER * self.size;
        let (x, y, _) = self.place();
        self.last = Some((x, y));
    }

    /// Draws texts and moves between them.
    fn draw_all(&mut self, list: &[Object], text: &mut Text) {
        for item in list {
            match item {
                Object::String(bytes, _) => self.draw(bytes, text),
                gap => {
                    let gap = number(gap).unwrap_or_default();
                    if gap < -GAP {
                        text.space();
                    }
                    // The widths of letters are not known well enough to trust small moves.
                    if let Some((x, _)) = &mut self.last {
                        *x -= gap / 1000.0 * self.size;
                    }
                    self.advance -= gap / 1000.0 * self.size;
                }
            }
        }
    }
}

fn number(object: &Object) -> Option<f64> {
    object
        .as_float()
        .ok()
        .map(f64::from)
        .filter(|n| n.is_finite())
}

fn numbers<const N: usize>(operation: &Operation) -> Option<[f64; N]> {
    let found: Vec<f64> = operation.operands.iter().filter_map(number).collect();
    found.try_into().ok()
}

fn texts(operands: &[Object]) -> Option<&[u8]> {
    operands.last()?.as_str().ok()
}

/// Adds the text of a page.
pub(super) fn read(
    document: &Document,
    page: ObjectId,
    text: &mut Text,
    stop: &AtomicBool,
) -> lopdf::Result<()> {
    let fonts = document.get_page_fonts(page)?;
    let encodings: BTreeMap<Vec<u8>, Encoding<'_>> = fonts
        .into_iter()
        .filter_map(|(name, font)| {
            let encoding = font.get_font_encoding_with_limit(document, MAX_FONT_BYTES);
            Some((name, encoding.ok()?))
        })
        .collect();
    let content = document.get_page_content_with_limit(page, super::MAX_STREAM_BYTES)?;
    let mut pen = Pen::new();
    for operation in Content::decode_iter(&content) {
        if text.is_full() || stop.load(Ordering::Relaxed) {
            break;
        }
        let operation = operation?;
        let operands = &operation.operands[..];
        match operation.operator.as_str() {
            "q" if pen.saved.len() < MAX_STATES => pen.saved.push(pen.page),
            "Q" => pen.page = pen.saved.pop().unwrap_or(pen.page),
            "cm" => {
                if let Some(matrix) = numbers(&operation) {
                    pen.page = product(matrix, pen.page);
                }
            }
            "BT" => {
                pen.line = IDENTITY;
                pen.advance = 0.0;
            }
            "Tf" => {
                let name = operands.first().and_then(|name| name.as_name().ok());
                pen.encoding = name.and_then(|name| encodings.get(name));
                pen.size = operands.get(1).and_then(number).unwrap_or(1.0);
            }
            "TL" => pen.leading = operands.first().and_then(number).unwrap_or_default(),
            "Td" | "TD" => {
                if let Some([x, y]) = numbers(&operation) {
                    if operation.operator == "TD" {
                        pen.leading = -y;
                    }
                    pen.shift(x, y);
                }
            }
            "Tm" => {
                if let Some(matrix) = numbers(&operation) {
                    pen.line = matrix;
                    pen.advance = 0.0;
                }
            }
            "T*" => next_line(&mut pen, text),
            "Tj" => {
                if let Some(bytes) = texts(operands) {
                    pen.draw(bytes, text);
                }
            }
            "'" | "\"" => {
                next_line(&mut pen, text);
                if let Some(bytes) = texts(operands) {
                    pen.draw(bytes, text);
                }
            }
            "TJ" => {
                if let Some(Object::Array(list)) = operands.first() {
                    pen.draw_all(list, text);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn next_line(pen: &mut Pen<'_>, text: &mut Text) {
    pen.shift(0.0, -pen.leading);
    text.line();
}
