// What a reader sees: texts that are shown, and what is wrong with how they are.

const plain = (text) => text.replace(/[\s\u202f]+/g, " ").trim();
const isShown = (element) => element.checkVisibility() && element.getClientRects().length > 0;

function rgba(colour) {
  const numbers = colour.match(/[\d.]+/g).map(Number);
  return numbers.length < 4 ? [...numbers, 1] : numbers;
}

/** The colour behind an element: backgrounds up to the first that is opaque. */
function ground(element) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const layer = rgba(getComputedStyle(at).backgroundColor);
    layers.push(layer);
    if (layer[3] === 1) break;
  }
  return layers.reverse().reduce((below, [r, g, b, a]) =>
    [r, g, b].map((value, place) => value * a + below[place] * (1 - a)), [255, 255, 255]);
}

/** WCAG 2: relative luminance. */
function luminance(colour) {
  const [r, g, b] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(element) {
  const [a, b] = [rgba(getComputedStyle(element).color).slice(0, 3), ground(element)].map(luminance);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function faultsOf(node) {
  const element = node.parentElement;
  const faults = [];
  const named = `"${plain(node.data)}" of ${element.id || element.className || element.localName}`;
  const range = document.createRange();
  range.selectNodeContents(node);
  const box = range.getBoundingClientRect();
  if (box.left < 0 || box.right > innerWidth + 0.5) faults.push(`${named} is out of the window`);
  const cell = element.closest("td, th, dd, dt, button, li, p, h1, h2, h3")?.getBoundingClientRect();
  if (cell && (box.right > cell.right + 1 || box.left < cell.left - 1)) {
    faults.push(`${named} is wider than its place`);
  }
  const strength = contrast(element);
  if (!element.closest(":disabled") && strength < 4.5) {
    faults.push(`${named} has a contrast of ${strength.toFixed(2)}`);
  }
  if (parseFloat(getComputedStyle(element).fontSize) < 11.5) faults.push(`${named} is too small`);
  return faults;
}

/** Cards that lie on one another. */
function overlaps() {
  const cards = [...document.querySelectorAll(".card, .top, footer")].filter(isShown);
  const boxes = cards.map((card) => [card, card.getBoundingClientRect()]);
  const isOn = (a, b) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  return boxes.flatMap(([card, a], place) =>
    boxes.slice(place + 1).filter(([, b]) => isOn(a, b))
      .map(([other]) => `${card.id || card.className} lies on ${other.id || other.className}`));
}

globalThis.look = {
  text(selector) {
    const element = document.querySelector(selector);
    return element && isShown(element) ? plain(element.innerText ?? element.textContent) : null;
  },
  texts: (selectors) => selectors.map((selector) => look.text(selector)),
  faults() {
    const faults = overlaps();
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) faults.push(`it is ${scrollWidth} px wide in ${clientWidth} px`);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || element.closest(".unseen, noscript")) continue;
      if (isShown(element)) faults.push(...faultsOf(walker.currentNode));
    }
    for (const input of document.querySelectorAll("input, button")) {
      const label = input.labels?.[0]?.textContent || input.textContent;
      if (isShown(input) && !label.trim()) faults.push(`${input.id} has no label`);
    }
    return faults;
  },
};
