// Every page: formulas, and what a keyboard needs.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  if (window.renderMathInElement)
    for (const formula of document.querySelectorAll(".math")) renderMathInElement(formula, { throwOnError: false });

  // The theme opens its menus by labels, which a keyboard can't reach.
  const names = { __navigation: "Menu", __toc: "Contents of this page" };
  for (const label of document.querySelectorAll("label[for]:not(.overlay)")) {
    const name = names[label.htmlFor];
    const box = document.getElementById(label.htmlFor);
    if (!box || box.type !== "checkbox") continue;
    label.tabIndex = 0;
    label.setAttribute("role", "button");
    const title = label.closest("li")?.querySelector("a")?.textContent;
    label.setAttribute("aria-label", name || `Pages below ${title}`);
    const told = () => label.setAttribute("aria-expanded", box.checked);
    told();
    box.addEventListener("change", told);
    label.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      label.click();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const name of Object.keys(names)) {
      const box = document.getElementById(name);
      if (box?.checked) box.click();
    }
  });

  // What scrolls by itself has to be reached to be scrolled.
  const reach = () => {
    for (const box of document.querySelectorAll("pre, .table-wrapper, .output, .math")) {
      if (box.scrollWidth <= box.clientWidth + 1 && box.scrollHeight <= box.clientHeight + 1) box.removeAttribute("tabindex");
      else box.tabIndex = 0;
    }
  };
  reach();
  window.addEventListener("resize", reach);
});
