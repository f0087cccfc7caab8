import { settledLength } from "./blocks.js";
import { markdown } from "./markdown.js";
import { patch } from "./patch.js";
import { watchBoxes } from "./scrollers.js";

/** At most so many further characters are drawn in one frame, so that a replayed long text never blocks the page. */
const STEP = 2000;
/** Hidden pages get no frames; the text goes on growing there all the same. */
const HIDDEN_MS = 250;
/** A slow machine draws less often: after a drawing that took longer than a frame it rests for twice that time. */
const FRAME_MS = 16;

/**
 * Draws a Markdown text into `target` while it grows, at most once per frame. Finished blocks are left alone; only the
 * unfinished tail is parsed again.
 * @param {HTMLElement} target
 * @param {() => void} [onDraw] after each change of the page
 */
export function createRenderer(target, onDraw = () => {}) {
  let source = "";
  let shown = 0;
  let settled = 0;
  let settledNodes = 0;
  let scheduled = false;
  let rest = 0;
  /** Counts the texts, so that the end of one never overwrites the next. */
  let epoch = 0;
  /** @type {((source: string) => DocumentFragment) | null} */
  let parse = null;
  /** @type {(() => void)[]} */
  let waiting = [];

  markdown.then((loaded) => {
    parse = loaded;
    if (loaded && shown) {
      target.textContent = "";
      shown = 0;
      schedule();
    }
  });

  function schedule() {
    if (scheduled) return;
    scheduled = true;
    if (document.hidden) setTimeout(draw, HIDDEN_MS);
    else if (rest) setTimeout(() => requestAnimationFrame(draw), rest);
    else requestAnimationFrame(draw);
  }

  function draw() {
    scheduled = false;
    const begun = performance.now();
    if (shown < source.length) {
      shown = Math.min(shown + STEP, source.length);
      target.classList.toggle("prose-plain", !parse);
      if (parse) drawMarkdown(parse);
      else target.textContent = source.slice(0, shown);
      onDraw();
    }
    const cost = performance.now() - begun;
    rest = cost > FRAME_MS ? 2 * cost : 0;
    if (shown < source.length) {
      schedule();
    } else {
      for (const resolve of waiting.splice(0)) resolve();
    }
  }

  /** @param {(source: string) => DocumentFragment} toNodes */
  function drawMarkdown(toNodes) {
    const tail = source.slice(settled, shown);
    const length = settledLength(tail);
    const nodes = toNodes(tail.slice(0, length));
    const count = nodes.childNodes.length;
    nodes.append(toNodes(tail.slice(length)));
    patch(target, nodes, settledNodes);
    settled += length;
    settledNodes += count;
    watchBoxes(target);
  }

  function reset() {
    epoch += 1;
    source = "";
    shown = settled = settledNodes = 0;
    target.textContent = "";
    onDraw();
  }

  return {
    reset,

    /** @param {string} token */
    append(token) {
      source += token;
      schedule();
    },

    /**
     * The whole text is known: what was appended is checked against it. Resolves when all of it is on the page.
     * @param {string} whole
     * @returns {Promise<void>}
     */
    async finish(whole) {
      const begun = epoch;
      await markdown;
      if (begun !== epoch) return;
      if (!whole.startsWith(source)) reset();
      source = whole;
      schedule();
      await new Promise((resolve) => waiting.push(() => resolve(undefined)));
    },
  };
}
