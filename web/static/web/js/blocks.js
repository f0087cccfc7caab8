const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})/;
/** A line that cannot go on a list, an indented block or a quotation, whatever its unwritten rest will be. */
const FRESH_BLOCK = /^(?:[^\s\-+*\d>]|\*\*[^\s*])/;

/**
 * How many characters at the start of a growing Markdown text are whole blocks that nothing written later can change: they
 * end before the last line that follows a blank one, begins a block of its own and stands outside any code fence.
 * @param {string} source begins at such a boundary itself
 */
export function settledLength(source) {
  let settled = 0;
  let fence = "";
  let afterBlank = false;
  for (let start = 0; start < source.length; ) {
    const newline = source.indexOf("\n", start);
    const end = newline === -1 ? source.length : newline;
    const line = source.slice(start, end);
    const mark = FENCE.exec(line)?.[1] ?? "";
    if (!fence && afterBlank && FRESH_BLOCK.test(line)) settled = start;
    if (!fence) fence = mark;
    else if (mark.startsWith(fence) && line.trim() === mark) fence = "";
    afterBlank = line.trim() === "";
    start = end + 1;
  }
  return settled;
}
