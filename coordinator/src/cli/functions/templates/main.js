// One task: its input is the first parameter, what it returns is its result, and console.log is its log.

export default function (input, { args, taskIndex }) {
    console.log(input.length, "letters");
    return { words: input.split(/\s+/).filter(Boolean).length };
}
