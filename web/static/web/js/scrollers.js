import { text } from "./strings.js";

const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const box = target.closest(".table-scroll, pre");
    if (box instanceof HTMLElement) mark(box);
  }
});

/** @param {HTMLElement} box */
function mark(box) {
  if (box.scrollWidth > box.clientWidth) {
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", text(box.matches("pre") ? "scrollingLog" : "scrollingTable"));
    box.dataset.hint = text("scrollSideways");
  } else if (box !== document.activeElement) {
    for (const name of ["tabindex", "role", "aria-label", "data-hint"]) box.removeAttribute(name);
  }
}

/**
 * Puts each bare table into a box in which it can scroll.
 * @param {ParentNode} parent
 */
export function boxTables(parent) {
  for (const table of parent.querySelectorAll("table")) {
    if (table.parentElement?.matches(".table-scroll")) continue;
    const box = document.createElement("div");
    box.className = "table-scroll";
    table.replaceWith(box);
    box.append(table);
  }
}

/**
 * Lets the keyboard into each box that is too narrow for what it holds, now and after every change of size.
 * @param {ParentNode} parent
 */
export function watchBoxes(parent) {
  for (const content of parent.querySelectorAll(".table-scroll, .table-scroll > table, pre, pre > code")) {
    observer.observe(content);
  }
}
