//! Filters on frames in classic BPF, which is what libpcap makes of tcpdump's language: whoever asks for a capture or a
//! trace compiles its filter and sends the program; here it is verified, and from then on it can be run on anything.
//!
//! A program that was taken ends: jumps go forward only, to a place inside, and the last instruction returns. It reads
//! nothing outside of the frame (a look beyond its end is "does not match"), nothing of the memory before it wrote it
//! (which is zero), divides by no constant zero, and has at most [`Program::LONGEST`] instructions: its cost is bounded by that.
//!
//! Not here: the language itself; what Linux adds to classic BPF (ancillary data at negative offsets).
//!
//! Source: McCanne and Jacobson, "The BSD Packet Filter" (1993); bpf(4); the codes are those of `pcap/bpf.h`.

mod run;

/// An instruction as libpcap has it, and `tcpdump -dd` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to leave out if a comparison holds.
    pub jt: u8,
    /// And if it does not.
    pub jf: u8,
    /// A number.
    pub k: u32,
}

/// Why a program is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BpfError {
    /// It would not be worth the time on each packet.
    #[error("the filter has {0} instructions, and may have {max}", max = Program::LONGEST)]
    Length(usize),
    /// Not an instruction of classic BPF.
    #[error("instruction {at} of the filter has the unknown code {code:#x}")]
    Code {
        /// Its place.
        at: usize,
        /// The code.
        code: u16,
    },
    /// A jump to outside of the program.
    #[error("instruction {0} of the filter jumps out of it")]
    Jump(usize),
    /// A place of the memory that there is not.
    #[error("instruction {at} of the filter uses place {place} of the memory, which has {MEMORY}")]
    Memory {
        /// The instruction's place.
        at: usize,
        /// The memory's.
        place: u32,
    },
    /// A division by a constant zero.
    #[error("instruction {0} of the filter divides by zero")]
    Zero(usize),
    /// It would go on behind its end.
    #[error("the filter does not end with a return")]
    End,
}

/// Places of a program's memory.
const MEMORY: usize = 16;

/// A program that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Box<[Op]>);

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    K(u32),
    X,
}

/// Bytes of the frame that make a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Word,
    Half,
    Byte,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    Greater,
    GreaterEqual,
    AnyBit,
}

/// An instruction that is known to be sound. A and X are the machine's two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// A becomes what stands in the frame at `at`, X added if `indexed`.
    Load { size: Size, at: u32, indexed: bool },
    /// A becomes a number.
    LoadImmediate(u32),
    /// A becomes the frame's length in bytes.
    LoadLength,
    /// A becomes what the memory has.
    LoadMemory(u8),
    /// X becomes a number.
    LoadXImmediate(u32),
    /// X becomes the frame's length in bytes.
    LoadXLength,
    /// X becomes what the memory has.
    LoadXMemory(u8),
    /// X becomes four times the lower half of a byte of the frame: the length of an IPv4 header.
    LoadXHeader(u32),
    /// The memory gets A.
    Store(u8),
    /// The memory gets X.
    StoreX(u8),
    /// A becomes A and the operand, joined.
    Alu(Alu, Operand),
    /// A becomes its negative.
    Negate,
    /// Leaves out so many instructions.
    Skip(u32),
    /// Leaves out so many instructions if the comparison with A holds, else so many.
    Branch { test: Test, with: Operand, yes: u8, no: u8 },
    /// X becomes A.
    Tax,
    /// A becomes X.
    Txa,
    /// The end: the frame matches unless this is zero.
    Return(u32),
    /// The same of A.
    ReturnA,
}

impl Program {
    /// Instructions of the longest program; tcpdump's language needs some ten for each address or port.
    pub const LONGEST: usize = 1024;

    /// Verifies a program.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn new(instructions: &[Instruction]) -> Result<Program, BpfError> {
        let count = instructions.len();
        if count > Self::LONGEST {
            return Err(BpfError::Length(count));
        }
        let ops: Result<Box<[Op]>, BpfError> =
            (0..).zip(instructions).map(|(at, instruction)| Op::new(at, instruction, count)).collect();
        let ops = ops?;
        match ops.last() {
            Some(Op::Return(_) | Op::ReturnA) => Ok(Program(ops)),
            _ => Err(BpfError::End),
        }
    }
}

impl Op {
    fn new(at: usize, instruction: &Instruction, count: usize) -> Result<Op, BpfError> {
        let Instruction { code, k, .. } = *instruction;
        let op = match code & 7 {
            0 => Op::load(at, code, k)?,
            1 => Op::load_x(at, code, k)?,
            2 if code == 0x02 => Some(Op::Store(memory(at, k)?)),
            3 if code == 0x03 => Some(Op::StoreX(memory(at, k)?)),
            4 => Op::alu(at, code, k)?,
            5 => Op::jump(at, instruction, count)?,
            6 if code == 0x06 => Some(Op::Return(k)),
            6 if code == 0x16 => Some(Op::ReturnA),
            7 if code == 0x07 => Some(Op::Tax),
            7 if code == 0x87 => Some(Op::Txa),
            _ => None,
        };
        op.ok_or(BpfError::Code { at, code })
    }

    fn load(at: usize, code: u16, k: u32) -> Result<Option<Op>, BpfError> {
        let size = match code & 0x18 {
            0x00 => Size::Word,
            0x08 => Size::Half,
            0x10 => Size::Byte,
            _ => return Ok(None),
        };
        Ok(match (code & !0x18, size) {
            (0x20, _) => Some(Op::Load { size, at: k, indexed: false }),
            (0x40, _) => Some(Op::Load { size, at: k, indexed: true }),
            (0x00, Size::Word) => Some(Op::LoadImmediate(k)),
            (0x60, Size::Word) => Some(Op::LoadMemory(memory(at, k)?)),
            (0x80, Size::Word) => Some(Op::LoadLength),
            _ => None,
        })
    }

    fn load_x(at: usize, code: u16, k: u32) -> Result<Option<Op>, BpfError> {
        Ok(match code {
            0x01 => Some(Op::LoadXImmediate(k)),
            0x61 => Some(Op::LoadXMemory(memory(at, k)?)),
            0x81 => Some(Op::LoadXLength),
            0xb1 => Some(Op::LoadXHeader(k)),
            _ => None,
        })
    }

    fn alu(at: usize, code: u16, k: u32) -> Result<Option<Op>, BpfError> {
        let operand = if code & 8 == 0 { Operand::K(k) } else { Operand::X };
        let alu = match code & !8 {
            0x04 => Alu::Add,
            0x14 => Alu::Sub,
            0x24 => Alu::Mul,
            0x34 => Alu::Div,
            0x44 => Alu::Or,
            0x54 => Alu::And,
            0x64 => Alu::Lsh,
            0x74 => Alu::Rsh,
            0x94 => Alu::Mod,
            0xa4 => Alu::Xor,
            0x84 if code == 0x84 => return Ok(Some(Op::Negate)),
            _ => return Ok(None),
        };
        match (alu, operand) {
            (Alu::Div | Alu::Mod, Operand::K(0)) => Err(BpfError::Zero(at)),
            _ => Ok(Some(Op::Alu(alu, operand))),
        }
    }

    fn jump(at: usize, instruction: &Instruction, count: usize) -> Result<Option<Op>, BpfError> {
        let Instruction { code, jt, jf, k } = *instruction;
        let inside = |skipped: u32| {
            let to = u64::from(skipped) + at as u64 + 1;
            if to < count as u64 { Ok(()) } else { Err(BpfError::Jump(at)) }
        };
        if code == 0x05 {
            inside(k)?;
            return Ok(Some(Op::Skip(k)));
        }
        let test = match code & !8 {
            0x15 => Test::Equal,
            0x25 => Test::Greater,
            0x35 => Test::GreaterEqual,
            0x45 => Test::AnyBit,
            _ => return Ok(None),
        };
        inside(jt.into())?;
        inside(jf.into())?;
        let with = if code & 8 == 0 { Operand::K(k) } else { Operand::X };
        Ok(Some(Op::Branch { test, with, yes: jt, no: jf }))
    }
}

fn memory(at: usize, place: u32) -> Result<u8, BpfError> {
    match u8::try_from(place) {
        Ok(small) if usize::from(small) < MEMORY => Ok(small),
        _ => Err(BpfError::Memory { at, place }),
    }
}

#[cfg(test)]
mod tests;
