import { boxTables } from "./scrollers.js";

const TAGS =
  "a blockquote br code del em h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul".split(" ");

// What a link may be, and how long a text and how large a table may be: as professions/markdown.py has it. What is beyond is
// shown as it was written.
const LINK =
  /^(?:https?:\/\/[^\x00-\x20\x7f-\x9f\\/?#%@]+(?:[/?#](?:(?!%(?:[01][0-9a-f]|5c|7f))[^\x00-\x20\x7f-\x9f\\])*)?|mailto:(?![/?#])(?:(?!%(?:[01][0-9a-f]|5c|7f))[^\x00-\x20\x7f-\x9f\\])+)$/i;
const MOST_CHARACTERS = 40_000;
const MOST_CELLS = 10_000;
/** For each place where emphasis may begin, marked looks for its end in all that follows. */
const MOST_EMPHASIS = 1000;

/** @param {string} plain */
function escape(plain) {
  return plain.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** @param {string} source */
function isTooLarge(source) {
  const lines = source.split("\n");
  const widest = lines.reduce((most, line) => Math.max(most, line.split("|").length - 1), 0);
  return (
    source.length > MOST_CHARACTERS ||
    lines.length * widest > MOST_CELLS ||
    (source.match(/[*_]+/g)?.length ?? 0) > MOST_EMPHASIS
  );
}

/** @param {string} source */
function asWritten(source) {
  const fragment = document.createDocumentFragment();
  for (const paragraph of source.split(/\n{2,}/)) {
    const element = document.createElement("p");
    element.className = "prose-plain";
    element.textContent = paragraph;
    fragment.append(element);
  }
  return fragment;
}

async function load() {
  const { Marked } = await import("../../vendor/marked.esm.js");
  const { default: purifier } = await import("../../vendor/purify.es.mjs");
  const box = document.createElement("textarea");

  /**
   * The address that a browser would read from the text, if that may be linked to.
   * @param {string} href
   */
  function allowed(href) {
    box.innerHTML = href;
    const address = box.value.replaceAll(" ", "%20");
    return LINK.test(address) ? address : null;
  }

  const marked = new Marked({
    gfm: true,
    async: false,
    // Raw HTML and bare addresses are text here, as they are for the server's renderer.
    tokenizer: { html: () => undefined, tag: () => undefined, url: () => undefined },
    renderer: {
      // The page has its own h1 and h2.
      heading({ tokens, depth }) {
        const level = Math.max(depth, 3);
        return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
      },
      link({ href, tokens, raw }) {
        const address = allowed(href);
        return address ? `<a href="${escape(address)}">${this.parser.parseInline(tokens)}</a>` : escape(raw);
      },
      image: ({ href, text, raw }) => escape(allowed(href) ? text : raw),
      checkbox: ({ checked }) => (checked ? "[x] " : "[ ] "),
    },
  });

  purifier.addHook("afterSanitizeAttributes", (node) => {
    if (node.tagName === "A") node.setAttribute("rel", "noopener noreferrer");
  });

  /** @param {string} source */
  return (source) => {
    if (isTooLarge(source)) return asWritten(source);
    let html;
    try {
      html = /** @type {string} */ (marked.parse(source));
    } catch (error) {
      if (error instanceof RangeError) return asWritten(source); // nested deeper than marked can follow
      throw error;
    }
    const fragment = purifier.sanitize(html, {
      ALLOWED_TAGS: ["#text", ...TAGS],
      ALLOWED_ATTR: ["align", "href", "start"],
      ADD_URI_SAFE_ATTR: ["align", "start"],
      ALLOWED_URI_REGEXP: LINK,
      ALLOW_ARIA_ATTR: false,
      ALLOW_DATA_ATTR: false,
      RETURN_DOM_FRAGMENT: true,
    });
    boxTables(fragment);
    return fragment;
  };
}

/**
 * Turns Markdown into harmless nodes; null if the parts for it could not be loaded, and the text is to be shown as it is.
 * @type {Promise<((source: string) => DocumentFragment) | null>}
 */
export const markdown = load().catch(() => null);
