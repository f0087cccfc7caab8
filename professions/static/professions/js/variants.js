import { ApiError } from "../../web/js/api.js";
import { disable, find, isDisabled } from "../../web/js/controls.js";
import { announce } from "../../web/js/status.js";
import { loadParser, read } from "../../web/js/stream.js";
import { text } from "../../web/js/strings.js";
import { refreshEarlierVariants } from "./earliervariants.js";
import { createVariant } from "./variant.js";

/** @typedef {ReturnType<typeof createVariant>} Variant */

/** @type {HTMLFormElement} */
const form = find(document, "[data-variants-form]");
/** @type {HTMLButtonElement} */
const button = find(form, "[data-write]");
const problem = find(document, "[data-problem]");
const section = find(document, "[data-variants]");
const list = find(section, "[data-columns]");
/** @type {HTMLTemplateElement} */
const template = find(document, "[data-column]");
/** @type {Map<number, Variant>} */
const columns = new Map();
let unfinished = 0;

/** @param {boolean} busy */
function setBusy(busy) {
  disable(button, busy);
  button.textContent = text(busy ? "variantsWriting" : "variantsWrite");
}

/** @param {number} number  @param {string} model */
function addColumn(number, model) {
  const column = createVariant(template, { number, model, onEnd: endOfOne });
  columns.set(number, column);
  list.append(column.element);
  section.hidden = false;
  unfinished += 1;
  return column;
}

function endOfOne() {
  unfinished -= 1;
  if (!unfinished) setBusy(false);
}

function clear() {
  for (const column of columns.values()) column.remove();
  columns.clear();
  unfinished = 0;
  section.hidden = true;
}

/** @param {string} sentence */
function refuse(sentence) {
  clear();
  problem.textContent = sentence;
  problem.hidden = false;
  announce(sentence);
  setBusy(false);
}

/** @param {import("../../web/js/stream.js").StreamEvent} event  @param {string} cursor */
function onEvent(event, cursor) {
  const { type, data } = event;
  const column = columns.get(data.variant) ?? addColumn(data.variant, data.model ?? "");
  if (type === "reconnect") column.resume();
  else column.onEvent(event, cursor);
}

/** @param {string[]} models */
async function write(models) {
  const createParser = await loadParser();
  if (!createParser) return refuse(text("variantsNoFiles"));
  let begun = false;
  const csrf = /** @type {HTMLInputElement} */ (find(form, "[name=csrfmiddlewaretoken]")).value;
  const body = { brief_id: Number(form.dataset.brief), models };
  try {
    await read(
      "/api/variants/stream",
      { body, csrf },
      (event, cursor) => {
        begun = true;
        onEvent(event, cursor);
      },
      createParser,
    );
  } catch (error) {
    if (!begun) {
      refuse(error instanceof ApiError ? error.message : text("unreachable"));
      // A server that was reached after all is writing; what it writes shows below.
      return refreshEarlierVariants();
    }
  }
  for (const column of columns.values()) column.resume();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isDisabled(button)) return;
  setBusy(true);
  problem.hidden = true;
  // What leaves the columns shows below.
  if (columns.size) await refreshEarlierVariants();
  clear();
  const models = [...form.querySelectorAll("input[name=model]")]
    .map((input) => (input instanceof HTMLInputElement ? input.value.trim() : ""))
    .filter(Boolean);
  models.forEach((model, index) => addColumn(index + 1, model));
  announce(text("variantsWriting"));
  await write(models);
});

button.disabled = false;
