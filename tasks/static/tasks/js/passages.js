/**
 * An answer with the passages marked that marks rest on.
 * @param {HTMLElement} target holds the answer as text
 */
export function createPassages(target) {
  // The server counts characters, and JavaScript's strings count halves of some.
  const characters = Array.from(target.textContent ?? "");
  /** @type {{start: number, end: number, number: string}[]} */
  const spans = [];

  function draw() {
    const cuts = [...new Set([0, characters.length, ...spans.flatMap(({ start, end }) => [start, end])])].sort((a, b) => a - b);
    const nodes = cuts.slice(1).map((end, index) => {
      const start = cuts[index] ?? 0;
      const words = characters.slice(start, end).join("");
      const numbers = spans.filter((span) => span.start <= start && end <= span.end).map((span) => span.number);
      if (!numbers.length) return document.createTextNode(words);
      const mark = document.createElement("mark");
      const above = document.createElement("sup");
      above.textContent = numbers.join(", ");
      mark.append(words, above);
      return mark;
    });
    target.replaceChildren(...nodes);
  }

  return {
    /** @param {number | null} start  @param {number | null} end  @param {string} number of the criterion on the page */
    add(start, end, number) {
      if (start === null || end === null) return;
      spans.push({ start, end, number });
      draw();
    },

    clear() {
      spans.length = 0;
      draw();
    },
  };
}
