//! Wraps a `wasm32-wasip1` command as a `wasi:cli/command` component: `componentize IN.wasm OUT.wasm`.

use anyhow::{Context, bail};
use wasi_preview1_component_adapter_provider::{WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER};
use wit_component::ComponentEncoder;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &args[..] else { bail!("usage: componentize IN.wasm OUT.wasm") };
    let module = std::fs::read(input).with_context(|| format!("{input} cannot be read"))?;
    let component = ComponentEncoder::default()
        .module(&module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .encode()?;
    std::fs::write(output, component).with_context(|| format!("{output} cannot be written"))
}
