// A classic script, loaded before the first paint so that the page never flashes in the wrong colours.
(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  root.dataset.js = "";

  function stored() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  }

  /** @param {string | null} theme  null: follow the system */
  function store(theme) {
    try {
      if (theme) localStorage.setItem("theme", theme);
      else localStorage.removeItem("theme");
    } catch {
      // A browser that keeps nothing still switches for this page.
    }
  }

  function systemTheme() {
    return system.matches ? "dark" : "light";
  }

  /** @param {string} theme */
  function apply(theme) {
    root.dataset.bsTheme = theme;
    for (const toggle of document.querySelectorAll("[data-theme-toggle]")) {
      toggle.setAttribute("aria-pressed", String(theme === "dark"));
      toggle.removeAttribute("hidden");
    }
  }

  apply(stored() ?? systemTheme());
  document.addEventListener("DOMContentLoaded", () => apply(root.dataset.bsTheme ?? systemTheme()));
  system.addEventListener("change", () => {
    if (!stored()) apply(systemTheme());
  });
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("[data-theme-toggle]")) return;
    const theme = root.dataset.bsTheme === "dark" ? "light" : "dark";
    store(theme === systemTheme() ? null : theme);
    apply(theme);
  });
})();
