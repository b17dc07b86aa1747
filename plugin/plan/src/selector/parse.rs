//! kubectl's selector grammar, token by token as `k8s.io/apimachinery/pkg/labels` reads it.
//!
//! In comes the text, out goes a checked selector. Kept exactly: blanks are only space, tab, CR and LF; `in` and `notin`
//! are words only between a key and a parenthesis; empty values (`a=`, `a in ()`, `a in (,b)`) are the empty string.

use std::collections::BTreeSet;

use super::{Condition, Requirement, Selector, SelectorError};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    NotEquals,
    Comparison(&'a str),
    Unknown(&'a str),
    End,
}

const SYMBOLS: &[u8] = b"=!(),<>";

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if is_blank(byte) {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        let length = if SYMBOLS.contains(&byte) {
            let (token, length) = symbol(rest);
            found.push(token);
            length
        } else {
            let length = rest
                .bytes()
                .position(|byte| is_blank(byte) || SYMBOLS.contains(&byte))
                .unwrap_or(rest.len());
            found.push(Token::Word(&rest[..length]));
            length
        };
        at += length;
    }
    found.push(Token::End);
    found
}

fn symbol(rest: &str) -> (Token<'_>, usize) {
    for (text, token) in [("==", Token::Equals), ("!=", Token::NotEquals)] {
        if rest.starts_with(text) {
            return (token, 2);
        }
    }
    let one = &rest[..1];
    let token = match one {
        "=" => Token::Equals,
        "!" => Token::Not,
        "(" => Token::Open,
        ")" => Token::Close,
        "," => Token::Comma,
        "<" | ">" => Token::Comparison(one),
        _ => Token::Unknown(one),
    };
    (token, 1)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
}

pub(super) fn selector(text: &str) -> Result<Selector, SelectorError> {
    let mut parser = Parser {
        text,
        tokens: tokens(text),
        at: 0,
    };
    let mut requirements = Vec::new();
    if parser.peek() == Token::End {
        return Ok(Selector::default());
    }
    loop {
        requirements.push(parser.requirement()?);
        match parser.next() {
            Token::End => return Ok(Selector::new(requirements)),
            Token::Comma => {}
            other => return Err(parser.unexpected(&other, "\",\" or the end")),
        }
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn unexpected(&self, token: &Token<'_>, expected: &'static str) -> SelectorError {
        let found = match token {
            Token::End => "the end".to_owned(),
            Token::Word(word) | Token::Unknown(word) => format!("\"{word}\""),
            Token::Comma => "\",\"".to_owned(),
            Token::Open => "\"(\"".to_owned(),
            Token::Close => "\")\"".to_owned(),
            Token::Not => "\"!\"".to_owned(),
            Token::Equals => "\"=\"".to_owned(),
            Token::NotEquals => "\"!=\"".to_owned(),
            Token::Comparison(operator) => {
                return SelectorError::Comparison {
                    text: self.text.to_owned(),
                    operator: (*operator).to_owned(),
                };
            }
        };
        SelectorError::Syntax {
            text: self.text.to_owned(),
            found,
            expected,
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        match self.next() {
            Token::Not => match self.next() {
                Token::Word(key) => Requirement::new(key, Condition::DoesNotExist),
                other => Err(self.unexpected(&other, "a label key after \"!\"")),
            },
            Token::Word(key) => {
                let condition = self.condition()?;
                Requirement::new(key, condition)
            }
            other => Err(self.unexpected(&other, "a label key or \"!\"")),
        }
    }

    fn condition(&mut self) -> Result<Condition, SelectorError> {
        match self.peek() {
            Token::End | Token::Comma => return Ok(Condition::Exists),
            _ => {}
        }
        match self.next() {
            Token::Equals => self.value().map(Condition::Equals),
            Token::NotEquals => self.value().map(Condition::NotEquals),
            Token::Word("in") => self.values().map(Condition::In),
            Token::Word("notin") => self.values().map(Condition::NotIn),
            other => Err(self.unexpected(&other, "=, ==, !=, in or notin")),
        }
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                self.at += 1;
                Ok(word.to_owned())
            }
            other => Err(self.unexpected(&other, "a label value")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.next() {
            Token::Open => {}
            other => return Err(self.unexpected(&other, "\"(\"")),
        }
        let mut values = BTreeSet::new();
        loop {
            let word = match self.peek() {
                Token::Word(word) => {
                    self.at += 1;
                    word
                }
                _ => "",
            };
            values.insert(word.to_owned());
            match self.next() {
                Token::Comma => {}
                Token::Close => return Ok(values),
                other => return Err(self.unexpected(&other, "\",\" or \")\"")),
            }
        }
    }
}
