import { find } from "../../web/js/controls.js";
import { text } from "../../web/js/strings.js";

/**
 * What `done` tells of a text: times in seconds, the cost in US dollars; null where the provider told nothing.
 * @typedef {object} Account
 * @property {number | null} [first_token_seconds]
 * @property {number | null} [seconds]
 * @property {number | null} [prompt_tokens]
 * @property {number | null} [completion_tokens]
 * @property {string | null} [cost] null: price unknown; absent: not told
 */

const TICK_MS = 1000;
/** Tokens can be counted only by who made them; this is what the server reckons with too. */
const CHARACTERS_PER_TOKEN = 4;

const UNKNOWN = "–";

const language = document.documentElement.lang || undefined;
const whole = new Intl.NumberFormat(language);
const tenths = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const dollars = new Intl.NumberFormat(language, {
  style: "currency",
  currency: "USD",
  currencyDisplay: "narrowSymbol",
  maximumFractionDigits: 6,
});

/** @param {Intl.NumberFormat} format  @param {number} value */
const seconds = (format, value) => text("seconds", { seconds: format.format(value) });

/**
 * The clock and the counts of one text, in the elements `data-figure`: measured here while it is written, as the server
 * knows them afterwards.
 * @param {HTMLElement} root
 */
export function createFigures(root) {
  const begun = performance.now();
  let characters = 0;
  let firstToken = false;

  /** @param {string} name  @param {string} words */
  function show(name, words) {
    find(root, `[data-figure="${name}"]`).textContent = words;
  }

  const elapsed = () => (performance.now() - begun) / 1000;
  const tick = () => show("seconds", seconds(whole, Math.floor(elapsed())));
  const timer = setInterval(tick, TICK_MS);
  tick();

  return {
    /** @param {string} token */
    grow(token) {
      if (!firstToken) show("firstToken", seconds(tenths, elapsed()));
      firstToken = true;
      characters += token.length;
      show("tokens", text("tokensAbout", { tokens: whole.format(Math.ceil(characters / CHARACTERS_PER_TOKEN)) }));
    },

    /** The text starts again; the clock does not. */
    reset() {
      characters = 0;
      show("tokens", UNKNOWN);
    },

    stop() {
      clearInterval(timer);
    },

    /** @param {Account} account */
    settle({ first_token_seconds, seconds: all, prompt_tokens, completion_tokens, cost }) {
      clearInterval(timer);
      if (first_token_seconds != null) show("firstToken", seconds(hundredths, first_token_seconds));
      if (all != null) show("seconds", seconds(hundredths, all));
      if (prompt_tokens != null && completion_tokens != null) {
        const counts = { prompt: whole.format(prompt_tokens), completion: whole.format(completion_tokens) };
        show("tokens", text("tokensExact", counts));
      }
      if (cost !== undefined) show("cost", cost === null ? text("priceUnknown") : dollars.format(Number(cost)));
    },
  };
}
