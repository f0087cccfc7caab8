/**
 * Hides an element; one that has the focus keeps it, greyed, until the focus goes elsewhere, because focus never moves by itself.
 * @param {HTMLElement} element
 */
export function conceal(element) {
  if (element.hidden) return;
  if (!element.contains(document.activeElement)) {
    element.hidden = true;
    return;
  }
  if (element instanceof HTMLButtonElement) disable(element, true);
  element.dataset.leaving = "";
  element.addEventListener("focusout", function leave({ relatedTarget }) {
    if (relatedTarget instanceof Node && element.contains(relatedTarget)) return;
    element.removeEventListener("focusout", leave);
    if ("leaving" in element.dataset) element.hidden = true;
  });
}

/** @param {HTMLElement} element */
export function reveal(element) {
  delete element.dataset.leaving;
  disable(element, false);
  element.hidden = false;
}

/**
 * `aria-disabled` instead of `disabled`: a disabled button would lose the focus.
 * @param {HTMLElement} element
 * @param {boolean} off
 */
export function disable(element, off) {
  if (off) element.setAttribute("aria-disabled", "true");
  else element.removeAttribute("aria-disabled");
}

/** @param {Element} element */
export function isDisabled(element) {
  return element.getAttribute("aria-disabled") === "true";
}

/**
 * @template {HTMLElement} T
 * @param {ParentNode} parent
 * @param {string} selector
 * @returns {T}
 */
export function find(parent, selector) {
  const element = parent.querySelector(selector);
  if (!element) throw new Error(`The page lacks ${selector}`);
  return /** @type {T} */ (element);
}
