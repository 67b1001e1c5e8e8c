// This file chooses between light and dark. It runs before anything is drawn, so that a
// page in the dark does not begin with a flash; that is why it is not a module.

(() => {
  "use strict";
  const key = "connmgr-theme";
  const root = document.documentElement;

  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  function stored() {
    try {
      return localStorage.getItem(key) ?? "system";
    } catch {
      return "system"; // the browser keeps nothing for this page
    }
  }

  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = stored();
    if (select.value === "") select.value = "system";
    const changed = () => document.dispatchEvent(new Event("themechange"));
    select.addEventListener("change", () => {
      apply(select.value);
      try {
        localStorage.setItem(key, select.value);
      } catch {
        // it holds until the page is loaded again
      }
      changed();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  });
})();
