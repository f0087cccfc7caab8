import { boxTables } from "./scrollers.js";

const TAGS =
  "a blockquote br code del em h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul".split(" ");

/** @param {string} plain */
function escape(plain) {
  return plain.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

async function load() {
  const { Marked } = await import("../../vendor/marked.esm.js");
  const { default: purifier } = await import("../../vendor/purify.es.mjs");

  const marked = new Marked({
    gfm: true,
    async: false,
    // Raw HTML is text here, as it is for the server's renderer.
    tokenizer: { html: () => undefined, tag: () => undefined },
    renderer: {
      // The page has its own h1 and h2.
      heading({ tokens, depth }) {
        const level = Math.max(depth, 3);
        return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
      },
      image: ({ text }) => escape(text),
      checkbox: ({ checked }) => (checked ? "[x] " : "[ ] "),
    },
  });

  purifier.addHook("afterSanitizeAttributes", (node) => {
    if (node.tagName === "A") node.setAttribute("rel", "noopener noreferrer");
  });

  /** @param {string} source */
  return (source) => {
    const fragment = purifier.sanitize(/** @type {string} */ (marked.parse(source)), {
      ALLOWED_TAGS: ["#text", ...TAGS],
      ALLOWED_ATTR: ["align", "href", "start"],
      ADD_URI_SAFE_ATTR: ["align", "start"],
      ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
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
