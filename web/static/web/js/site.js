import { closeByItself } from "./menu.js";
import { watchNetwork } from "./offline.js";
import { showPending } from "./pending.js";
import { boxTables, watchBoxes } from "./scrollers.js";
import { tellTimeZone } from "./timezone.js";

for (const menu of document.querySelectorAll("details")) {
  if ("menu" in menu.dataset) closeByItself(menu);
}
for (const form of document.querySelectorAll("form")) {
  if ("pending" in form.dataset) showPending(form);
}
for (const prose of document.querySelectorAll(".prose")) boxTables(prose);
watchBoxes(document);
tellTimeZone();
const banner = document.querySelector("[data-offline]");
if (banner instanceof HTMLElement) watchNetwork(banner);
