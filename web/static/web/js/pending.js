import { disable, isDisabled } from "./controls.js";

/**
 * Shows at once that a form is on its way, and sends it once.
 * @param {HTMLFormElement} form
 */
export function showPending(form) {
  const button = form.querySelector("button");
  if (!button) return;
  form.addEventListener("submit", (event) => {
    if (isDisabled(button)) event.preventDefault();
    disable(button, true);
    button.setAttribute("aria-busy", "true");
  });
  window.addEventListener("pageshow", () => {
    disable(button, false);
    button.removeAttribute("aria-busy");
  });
}
