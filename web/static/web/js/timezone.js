/**
 * Tells the server in which zone this browser's person reads times. What this first page shows is put right here.
 */
export function tellTimeZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || document.cookie.split("; ").includes(`timezone=${zone}`)) return;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `timezone=${zone}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
  for (const time of document.querySelectorAll("time[data-shown]")) {
    const moment = new Date(time.getAttribute("datetime") ?? "");
    const language = document.documentElement.lang;
    time.textContent =
      time.getAttribute("data-shown") === "date"
        ? moment.toLocaleDateString(language, { dateStyle: "long" })
        : moment.toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
  }
}
