// The page behind a connect link. The token leaves the address bar before anything else happens, and never comes back.
(() => {
  "use strict";
  const hub = document.querySelector("mooring-hub");
  const token = new URLSearchParams(location.search).get("token");
  history.replaceState(null, "", location.pathname);
  const keep = (value) => {
    try {
      if (value) sessionStorage.setItem("mooring:token", value);
      return sessionStorage.getItem("mooring:token") || value;
    } catch {
      return value;
    }
  };
  hub.token = keep(token) || "-"; // without any token the server's answer explains the page
  if (window.parent === window) return;
  // In a frame the page that embeds it is told, at its exact origin and no other.
  const origins = JSON.parse(hub.dataset.origins);
  const above = location.ancestorOrigins ? [...location.ancestorOrigins].slice(0, 1).filter((o) => origins.includes(o)) : origins;
  const tell = (message) => above.forEach((origin) => window.parent.postMessage(message, origin));
  hub.addEventListener("success", (e) => tell({ type: "AccountConnected", account: e.detail }));
  hub.addEventListener("close", () => tell({ type: "MooringClosed" }));
  hub.addEventListener("error", (e) => tell({ type: "MooringError", error: e.detail }));
})();
