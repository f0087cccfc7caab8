/**
 * Prints on request, and opens everything folded for as long as the printer looks.
 * @param {HTMLElement} button
 */
export function wirePrint(button) {
  /** @type {HTMLDetailsElement[]} */
  let opened = [];
  button.hidden = false;
  button.addEventListener("click", () => window.print());
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details")].filter((fold) => fold.matches(".fold:not([open])"));
    for (const fold of opened) fold.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
  });
}
