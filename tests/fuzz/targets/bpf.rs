//! Any program and any frame: a program that is taken ends, reads nothing elsewhere, and says what the machine's description says.
//!
//! An input is the number of instructions, these as they are in memory in network byte order, then the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_engine::bpf::{Instruction, Program};

fuzz_target!(|bytes: &[u8]| {
    let Some((&count, rest)) = bytes.split_first() else { return };
    let room = rest.len() / 8;
    let (code, frame) = rest.split_at(8 * room.min(count.into()));
    let instructions: Vec<Instruction> = code.chunks_exact(8).map(instruction).collect();
    if let Ok(program) = Program::new(&instructions) {
        assert_eq!(program.matches(frame), by_the_book(&instructions, frame) != 0);
    }
});

fn instruction(bytes: &[u8]) -> Instruction {
    let word = |at: usize| u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    Instruction { code: word(0) as u16, jt: bytes[2], jf: bytes[3], k: word(4) << 16 | word(6) }
}

/// What a program returns, an instruction at a time as bpf(4) has them; 0 where a look goes beyond the frame.
fn by_the_book(program: &[Instruction], frame: &[u8]) -> u32 {
    let (mut a, mut x, mut memory, mut pc) = (0u32, 0u32, [0u32; 16], 0);
    let length = frame.len() as u32;
    let load = |at: u64, size: u64| {
        let span = usize::try_from(at).ok()?..usize::try_from(at + size).ok()?;
        frame.get(span).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    loop {
        let Instruction { code, jt, jf, k } = program[pc];
        pc += 1;
        let operand = if code & 0x08 == 0 { k } else { x };
        let size = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        let loaded = match code {
            0x20 | 0x28 | 0x30 => load(k.into(), size),
            0x40 | 0x48 | 0x50 => load(u64::from(k) + u64::from(x), size),
            0xb1 => load(k.into(), 1),
            _ => Some(0),
        };
        let Some(loaded) = loaded else { return 0 };
        match code {
            0x00 => a = k,
            0x60 => a = memory[k as usize],
            0x80 => a = length,
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => a = loaded,
            0x01 => x = k,
            0x61 => x = memory[k as usize],
            0x81 => x = length,
            0xb1 => x = 4 * (loaded & 15),
            0x02 => memory[k as usize] = a,
            0x03 => memory[k as usize] = x,
            0x04 | 0x0c => a = a.wrapping_add(operand),
            0x14 | 0x1c => a = a.wrapping_sub(operand),
            0x24 | 0x2c => a = a.wrapping_mul(operand),
            0x34 | 0x3c | 0x94 | 0x9c if operand == 0 => return 0,
            0x34 | 0x3c => a /= operand,
            0x94 | 0x9c => a %= operand,
            0x44 | 0x4c => a |= operand,
            0x54 | 0x5c => a &= operand,
            0xa4 | 0xac => a ^= operand,
            0x64 | 0x6c => a = if operand < 32 { a << operand } else { 0 },
            0x74 | 0x7c => a = if operand < 32 { a >> operand } else { 0 },
            0x84 => a = 0u32.wrapping_sub(a),
            0x05 => pc += k as usize,
            0x15 | 0x1d => pc += usize::from(if a == operand { jt } else { jf }),
            0x25 | 0x2d => pc += usize::from(if a > operand { jt } else { jf }),
            0x35 | 0x3d => pc += usize::from(if a >= operand { jt } else { jf }),
            0x45 | 0x4d => pc += usize::from(if a & operand != 0 { jt } else { jf }),
            0x07 => x = a,
            0x87 => a = x,
            0x06 => return k,
            0x16 => return a,
            _ => panic!("instruction {code:#x} was taken"),
        }
    }
}
