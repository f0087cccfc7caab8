/**
 * A <details> menu that closes when the learner clicks or tabs elsewhere, or presses Escape.
 * @param {HTMLDetailsElement} menu
 */
export function closeByItself(menu) {
  document.addEventListener("click", (event) => {
    if (event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget instanceof Node && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.querySelector("summary")?.focus();
    menu.open = false;
  });
}
