import { find } from "../../web/js/controls.js";
import { boxTables, watchBoxes } from "../../web/js/scrollers.js";

const list = find(document, "[data-earlier]");

function fitTexts() {
  for (const text of list.querySelectorAll(".prose")) boxTables(text);
  watchBoxes(list);
}

/** Brings the list of earlier variants up to date; it stays as it is when the server does not answer. */
export async function refreshEarlierVariants() {
  try {
    const response = await fetch(location.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    list.replaceChildren(...find(page, "[data-earlier]").childNodes);
    fitTexts();
  } catch {
    // The variants are stored all the same, and the next reload shows them.
  }
}

fitTexts();
