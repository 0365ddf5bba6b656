//! A verified program at work on a frame.

use super::{Alu, MEMORY, Op, Operand, Program, Size, Test};

/// The machine between two instructions.
struct Machine<'f> {
    frame: &'f [u8],
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl Program {
    /// Whether a frame, from its Ethernet header on, matches.
    pub fn matches(&self, frame: &[u8]) -> bool {
        let mut machine = Machine { frame, a: 0, x: 0, memory: [0; MEMORY] };
        let mut rest = self.0.iter();
        while let Some(op) = rest.next() {
            match machine.step(*op) {
                // What stands in front of it was verified: these many are there.
                Next::Skip(0) => {}
                Next::Skip(count) => drop(rest.nth(count as usize - 1)),
                Next::End(matches) => return matches,
            }
        }
        false
    }
}

/// What comes behind an instruction.
enum Next {
    /// The one behind so many.
    Skip(u32),
    /// Nothing: the frame matches, or it does not.
    End(bool),
}

impl Machine<'_> {
    #[inline]
    fn step(&mut self, op: Op) -> Next {
        match op {
            Op::Load { size, at, indexed } => {
                let at = if indexed { at.checked_add(self.x) } else { Some(at) };
                match at.and_then(|at| self.read(at, size)) {
                    Some(value) => self.a = value,
                    None => return Next::End(false),
                }
            }
            Op::LoadImmediate(k) => self.a = k,
            Op::LoadLength => self.a = self.length(),
            Op::LoadMemory(place) => self.a = self.recall(place),
            Op::LoadXImmediate(k) => self.x = k,
            Op::LoadXLength => self.x = self.length(),
            Op::LoadXMemory(place) => self.x = self.recall(place),
            Op::LoadXHeader(at) => match self.read(at, Size::Byte) {
                Some(byte) => self.x = (byte & 0xf) * 4,
                None => return Next::End(false),
            },
            Op::Store(place) => self.keep(place, self.a),
            Op::StoreX(place) => self.keep(place, self.x),
            Op::Alu(alu, operand) => match self.compute(alu, operand) {
                Some(value) => self.a = value,
                None => return Next::End(false),
            },
            Op::Negate => self.a = self.a.wrapping_neg(),
            Op::Skip(count) => return Next::Skip(count),
            Op::Branch { test, with, yes, no } => {
                return Next::Skip(if self.holds(test, with) { yes } else { no }.into());
            }
            Op::Tax => self.x = self.a,
            Op::Txa => self.a = self.x,
            Op::Return(k) => return Next::End(k != 0),
            Op::ReturnA => return Next::End(self.a != 0),
        }
        Next::Skip(0)
    }

    fn length(&self) -> u32 {
        u32::try_from(self.frame.len()).unwrap_or(u32::MAX)
    }

    /// A number of the frame, in network byte order; None if it reaches beyond its end.
    #[inline]
    fn read(&self, at: u32, size: Size) -> Option<u32> {
        let rest = self.frame.get(at as usize..)?;
        Some(match size {
            Size::Word => u32::from_be_bytes(*rest.first_chunk()?),
            Size::Half => u16::from_be_bytes(*rest.first_chunk()?).into(),
            Size::Byte => u32::from(*rest.first()?),
        })
    }

    fn value(&self, operand: Operand) -> u32 {
        match operand {
            Operand::K(k) => k,
            Operand::X => self.x,
        }
    }

    /// None where X, and so the divisor, is zero.
    fn compute(&self, alu: Alu, operand: Operand) -> Option<u32> {
        let (a, b) = (self.a, self.value(operand));
        Some(match alu {
            Alu::Add => a.wrapping_add(b),
            Alu::Sub => a.wrapping_sub(b),
            Alu::Mul => a.wrapping_mul(b),
            Alu::Div => a.checked_div(b)?,
            Alu::Mod => a.checked_rem(b)?,
            Alu::Or => a | b,
            Alu::And => a & b,
            Alu::Xor => a ^ b,
            Alu::Lsh => a.checked_shl(b).unwrap_or(0),
            Alu::Rsh => a.checked_shr(b).unwrap_or(0),
        })
    }

    #[inline]
    fn holds(&self, test: Test, with: Operand) -> bool {
        let (a, b) = (self.a, self.value(with));
        match test {
            Test::Equal => a == b,
            Test::Greater => a > b,
            Test::GreaterEqual => a >= b,
            Test::AnyBit => a & b != 0,
        }
    }

    fn recall(&self, place: u8) -> u32 {
        self.memory.get(usize::from(place)).copied().unwrap_or(0)
    }

    fn keep(&mut self, place: u8, value: u32) {
        if let Some(slot) = self.memory.get_mut(usize::from(place)) {
            *slot = value;
        }
    }
}
