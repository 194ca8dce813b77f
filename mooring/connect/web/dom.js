// Small tools for the document. Text is always set as text: nothing from a server becomes markup.

function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

const ICONS = {
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.2 16.2L21 21",
  ok: "M5 12.5l4.5 4.5L19 7.5",
  warn: "M12 4L2.5 20h19L12 4zM12 10v4.5M12 17.3v.2",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  out: "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
  swap: "M4 8h15M15 4l4 4-4 4M20 16H5M9 12l-4 4 4 4",
};

function icon(name, size = 20) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  const path = document.createElementNS(ns, "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true", class: "icon" }))
    svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function button(label, onclick, kind = "", extra = {}) {
  return h("button", { type: "button", class: `button ${kind}`, onclick, ...extra }, ...[label].flat());
}

function logo(url, size = 40) {
  return h("img", { src: url, alt: "", width: size, height: size, class: "logo", loading: "lazy", decoding: "async" });
}

// A tab's own memory. Browsers may forbid it inside a frame; then a reload simply starts again.
const memory = {
  get(key) {
    try {
      return JSON.parse(sessionStorage.getItem("mooring:" + key));
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      if (value === null) sessionStorage.removeItem("mooring:" + key);
      else sessionStorage.setItem("mooring:" + key, JSON.stringify(value));
    } catch {}
  },
};

// The operator's guide comes sanitised from the server. It is rebuilt from an allowlist all the same.
const GUIDE_TAGS = "A B BLOCKQUOTE BR CODE EM H1 H2 H3 H4 LI OL P PRE STRONG TABLE TBODY TD TH THEAD TR UL".split(" ");

function safeMarkup(html) {
  const copy = (from, to) => {
    for (const node of from.childNodes) {
      if (node.nodeType === 3) to.append(node.data);
      else if (node.nodeType === 1 && GUIDE_TAGS.includes(node.tagName)) {
        const tag = node.tagName.replace(/^H[1-4]$/, "H3").toLowerCase();
        const link = tag === "a" && /^https:\/\//.test(node.getAttribute("href") || "");
        const made = h(tag === "a" && !link ? "span" : tag, link && { href: node.href, target: "_blank", rel: "noopener noreferrer" });
        copy(node, made);
        to.append(made);
      } else if (node.nodeType === 1 && !/^(SCRIPT|STYLE|TEMPLATE|IFRAME|OBJECT)$/.test(node.tagName)) copy(node, to);
    }
    return to;
  };
  return copy(new DOMParser().parseFromString(html, "text/html").body, h("div", { class: "guide-text" }));
}
