/** Attributes that scrollers.js sets on what is already on the page. */
const OURS = new Set(["tabindex", "role", "aria-label"]);

/**
 * Makes the children of `parent` from the index `from` on equal to those of `fresh`, touching as little as possible, so that
 * selected text stays selected and only what grew is laid out again.
 * @param {Node} parent
 * @param {Node} fresh is used up
 * @param {number} [from]
 */
export function patch(parent, fresh, from = 0) {
  let old = /** @type {ChildNode | null} */ (parent.childNodes[from] ?? null);
  for (const next of [...fresh.childNodes]) {
    if (old) {
      const sibling = old.nextSibling;
      merge(old, next);
      old = sibling;
    } else {
      parent.appendChild(next);
    }
  }
  while (old) {
    const sibling = old.nextSibling;
    old.parentNode?.removeChild(old);
    old = sibling;
  }
}

/**
 * @param {ChildNode} old
 * @param {ChildNode} next
 */
function merge(old, next) {
  if (old instanceof Text && next instanceof Text) {
    if (next.data.startsWith(old.data)) {
      if (next.length > old.length) old.appendData(next.data.slice(old.length));
    } else {
      old.data = next.data;
    }
  } else if (old instanceof Element && next instanceof Element && old.tagName === next.tagName) {
    copyAttributes(old, next);
    patch(old, next);
  } else {
    old.replaceWith(next);
  }
}

/**
 * @param {Element} old
 * @param {Element} next
 */
function copyAttributes(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !OURS.has(name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}
