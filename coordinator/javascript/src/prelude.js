// What scripts find besides the language itself. `native` is what the runner gives; scripts do not see it.
((native) => {
    "use strict";
    const json = JSON.stringify;

    const plainer = (_, inner) =>
        typeof inner === "bigint" ? String(inner) : ArrayBuffer.isView(inner) ? Array.from(inner) : inner;
    const shown = (value) => {
        if (typeof value === "string") return value;
        if (value instanceof Error) {
            // Without the frames of this file.
            const frames = String(value.stack ?? "").split("\n").filter((frame) => frame && !frame.includes("(eval_script"));
            return [`${value.name}: ${value.message}`, ...frames].join("\n");
        }
        if (typeof value === "object" && value !== null) {
            try {
                return json(value, plainer) ?? String(value);
            } catch {
                return String(value);
            }
        }
        return String(value);
    };
    const log = (...values) => native.log(values.map(shown).join(" "));

    // A result as bytes or text: text and bytes as they are, anything else as JSON.
    const rendered = (value) => {
        if (value === undefined || typeof value === "string") return value;
        if (value instanceof ArrayBuffer) return new Uint8Array(value);
        if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
        const text = json(value);
        if (text === undefined) throw new TypeError(`a ${typeof value} cannot be written as output: return text, bytes or data`);
        return `${text}\n`;
    };
    const write = (value) => {
        const out = rendered(value);
        if (out !== undefined) native.write(out);
    };

    let input;
    const text = () => (input ??= native.text());
    const lull = Object.freeze({
        args: Object.freeze(native.args),
        taskIndex: native.taskIndex,
        attempt: native.attempt,
        job: native.job,
        env: Object.freeze(native.env),
        input: text,
        json: () => JSON.parse(text()),
        bytes: () => native.bytes(),
        *lines() {
            for (let line; (line = native.line()) !== undefined; ) yield line;
        },
        write,
        log,
    });

    const hidden = (object, name, value) =>
        Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
    hidden(globalThis, "lull", lull);
    hidden(globalThis, "console", { log, info: log, debug: log, warn: log, error: log, trace: log });
    hidden(Math, "random", () => native.random());
    hidden(globalThis, "crypto", {
        getRandomValues(array) {
            const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
            bytes.set(native.randomBytes(bytes.length));
            return array;
        },
    });
    hidden(globalThis, "TextEncoder", class TextEncoder {
        get encoding() { return "utf-8"; }
        encode(text = "") { return native.encode(String(text)); }
    });
    hidden(globalThis, "TextDecoder", class TextDecoder {
        #fatal;
        constructor(label = "utf-8", { fatal = false } = {}) {
            if (!/^utf-?8$/i.test(label)) throw new RangeError(`the only encoding here is UTF-8, not ${label}`);
            this.#fatal = fatal;
        }
        get encoding() { return "utf-8"; }
        decode(bytes = new Uint8Array()) {
            const view = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
            return native.decode(view, this.#fatal);
        }
    });

    // What the runner calls: the script's own function if it exports one, and what came of it.
    const kinds = { text: lull.input, json: lull.json, bytes: lull.bytes };
    return (module) => {
        const { default: main, input: kind = "text" } = module;
        if (main === undefined) return undefined;
        if (typeof main !== "function") throw new TypeError(`the default export is ${typeof main}, and has to be a function of the input`);
        if (!Object.hasOwn(kinds, kind)) throw new TypeError(`\`export const input\` says ${shown(kind)}: it can be "text", "json" or "bytes"`);
        const result = main(kinds[kind](), lull);
        return result instanceof Promise ? result.then(write) : write(result);
    };
})
