/** @type {Map<string, string>} */
const strings = new Map();
const holder = document.getElementById("strings");
if (holder instanceof HTMLTemplateElement) {
  for (const entry of holder.content.querySelectorAll("[data-key]")) {
    strings.set(entry.getAttribute("data-key") ?? "", entry.textContent.trim());
  }
}

/**
 * The translated string of templates/_strings.html, with {name} replaced.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function text(key, values = {}) {
  return (strings.get(key) ?? key).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
