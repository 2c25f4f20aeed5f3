//! What the prelude builds on: standard input and output, arguments, environment, randomness.

use std::{
    cell::RefCell,
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Stdin, Stdout, Write as _},
};

use rquickjs::{Array, Ctx, Exception, Function, Object, Result, TypedArray, Value};

/// Large enough that a call of the system is rare.
const BUFFER_BYTES: usize = 64 << 10;

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(buffer: *mut u8, length: usize) -> i32;
}

thread_local! {
    static INPUT: RefCell<BufReader<Stdin>> = RefCell::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()));
    static OUTPUT: RefCell<BufWriter<Stdout>> = RefCell::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
    static RANDOM: RefCell<[u64; 4]> = RefCell::new(seed());
}

/// Writes what is still buffered.
pub(crate) fn finish() -> io::Result<()> {
    OUTPUT.with_borrow_mut(BufWriter::flush)
}

pub(crate) fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<f64>().ok());
    let args = Array::new(ctx.clone())?;
    for (index, arg) in std::env::args().skip(1).enumerate() {
        args.set(index, arg)?;
    }
    let env = Object::new(ctx.clone())?;
    for (name, value) in std::env::vars() {
        env.set(name, value)?;
    }
    native.set("args", args)?;
    native.set("env", env)?;
    native.set("taskIndex", number("LULL_TASK_INDEX").unwrap_or(0.0))?;
    native.set("attempt", number("LULL_ATTEMPT").unwrap_or(1.0))?;
    native.set("job", std::env::var("LULL_JOB").unwrap_or_default())?;
    native.set("log", Function::new(ctx.clone(), |line: String| eprintln!("{line}"))?)?;
    native.set("write", Function::new(ctx.clone(), write)?)?;
    native.set("text", Function::new(ctx.clone(), text)?)?;
    native.set("bytes", Function::new(ctx.clone(), bytes)?)?;
    native.set("line", Function::new(ctx.clone(), line)?)?;
    native.set("random", Function::new(ctx.clone(), random)?)?;
    native.set("randomBytes", Function::new(ctx.clone(), random_bytes)?)?;
    native.set("encode", Function::new(ctx.clone(), |ctx: Ctx<'js>, text: String| TypedArray::new(ctx, text.into_bytes()))?)?;
    native.set("decode", Function::new(ctx.clone(), decode)?)?;
    Ok(native)
}

fn write<'js>(ctx: Ctx<'js>, value: Value<'js>) -> Result<()> {
    let written = if let Some(text) = value.as_string() {
        let text = text.to_string()?;
        OUTPUT.with_borrow_mut(|output| output.write_all(text.as_bytes()))
    } else {
        let array = TypedArray::<u8>::from_value(value)?;
        OUTPUT.with_borrow_mut(|output| output.write_all(bytes_of(&array)))
    };
    written.map_err(|error| thrown(&ctx, &format!("the output cannot be written: {error}")))
}

/// The rest of the input.
fn rest(ctx: &Ctx<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = INPUT.with_borrow_mut(|input| input.read_to_end(&mut bytes));
    read.map_err(|error| thrown(ctx, &format!("the input cannot be read: {error}")))?;
    Ok(bytes)
}

fn text(ctx: Ctx<'_>) -> Result<rquickjs::String<'_>> {
    let bytes = rest(&ctx)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let words = format!(
            "the input is not UTF-8 text (at byte {}): `export const input = \"bytes\"` takes it as it is",
            error.valid_up_to()
        );
        Exception::throw_type(&ctx, &words)
    })?;
    rquickjs::String::from_str(ctx.clone(), text)
}

fn bytes(ctx: Ctx<'_>) -> Result<TypedArray<'_, u8>> {
    let bytes = rest(&ctx)?;
    TypedArray::new(ctx, bytes)
}

/// The next line without its end; nothing at the end of the input.
fn line(ctx: Ctx<'_>) -> Result<Option<String>> {
    let mut line = Vec::new();
    let read = INPUT.with_borrow_mut(|input| input.read_until(b'\n', &mut line));
    if read.map_err(|error| thrown(&ctx, &format!("the input cannot be read: {error}")))? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    String::from_utf8(line).map(Some).map_err(|_| Exception::throw_type(&ctx, "a line of the input is not UTF-8 text"))
}

fn decode<'js>(ctx: Ctx<'js>, bytes: TypedArray<'js, u8>, fatal: bool) -> Result<String> {
    let bytes = bytes_of(&bytes);
    // A mark of the byte order is no part of the text.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) if fatal => Err(Exception::throw_type(&ctx, "the bytes are not UTF-8 text")),
        Err(_) => Ok(String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn random_bytes(ctx: Ctx<'_>, count: usize) -> Result<TypedArray<'_, u8>> {
    let mut bytes = vec![0; count];
    fill_random(&mut bytes);
    TypedArray::new(ctx, bytes)
}

/// The bytes of an array that no script touches meanwhile.
fn bytes_of<'a>(array: &'a TypedArray<'_, u8>) -> &'a [u8] {
    // SAFETY: nothing of the script runs until the caller is done with them.
    unsafe { array.as_bytes() }.unwrap_or_default()
}

fn thrown(ctx: &Ctx<'_>, words: &str) -> rquickjs::Error {
    Exception::throw_message(ctx, words)
}

fn fill_random(bytes: &mut [u8]) {
    // SAFETY: the buffer is as long as it says.
    unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
}

fn seed() -> [u64; 4] {
    let mut bytes = [0; 32];
    fill_random(&mut bytes);
    let mut words = [1; 4];
    for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = part.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}

/// xoshiro256++, by Blackman and Vigna: `Math.random` of QuickJS itself is seeded by the clock alone.
fn random() -> f64 {
    RANDOM.with_borrow_mut(|s| {
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        (result >> 11) as f64 / (1_u64 << 53) as f64
    })
}
