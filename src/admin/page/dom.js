// Elements as values: a view says what there is to be seen, and `render` changes of the page
// only what differs. So focus, selection and scroll stay where they are while numbers change.
//
// Whatever is a string becomes a text node; nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; properties that begin with `on` are listeners, `style` sets CSS properties. */
export function h(tag, properties, ...children) {
  return { tag, properties: properties ?? {}, key: properties?.key, children: flat(children) };
}

/** Makes the children of `place` what they are to be. */
export function render(place, ...children) {
  place.drawn = patch(place, place.drawn ?? [], flat(children));
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child != null && child !== false)
    .map((child) => (typeof child === "object" ? child : { text: String(child) }));
}

function patch(parent, before, after) {
  const left = new Set(before);
  const byKey = new Map(before.filter((one) => one.key != null).map((one) => [one.key, one]));
  const unkeyed = before.filter((one) => one.key == null);
  for (const one of after) {
    const known = one.key != null ? byKey.get(one.key) : next(unkeyed, one.tag);
    if (known?.tag === one.tag && left.delete(known)) {
      update(known, one);
    } else {
      one.node = create(one, parent.namespaceURI);
    }
  }
  for (const one of left) one.node.remove();
  let place = parent.firstChild;
  for (const { node } of after) {
    if (node === place) {
      place = place.nextSibling;
    } else if (node.parentNode && parent.moveBefore) {
      parent.moveBefore(node, place); // keeps the focus
    } else {
      parent.insertBefore(node, place);
    }
  }
  return after;
}

/** Takes the first of this tag. */
function next(unkeyed, tag) {
  const index = unkeyed.findIndex((one) => one.tag === tag);
  return index < 0 ? undefined : unkeyed.splice(index, 1)[0];
}

function create(one, namespace) {
  if (one.tag === undefined) return document.createTextNode(one.text);
  const node = document.createElementNS(one.tag === "svg" ? SVG : namespace, one.tag);
  change(node, {}, one.properties);
  one.children = patch(node, [], one.children);
  return node;
}

function update(before, after) {
  after.node = before.node;
  if (after.tag === undefined) {
    if (before.text !== after.text) after.node.nodeValue = after.text;
    return;
  }
  change(after.node, before.properties, after.properties);
  after.children = patch(after.node, before.children, after.children);
}

function change(node, before, after) {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const value = after[name];
    if (name === "key" || value === before[name]) continue;
    if (name.startsWith("on")) {
      node[name] = value ?? null;
    } else if (name === "style") {
      for (const [property, text] of Object.entries(value ?? {})) {
        if (before.style?.[property] !== text) node.style.setProperty(property, text);
      }
    } else if (name === "value") {
      node.value = value ?? "";
    } else if (name === "selected") {
      node.selected = value;
    } else if (value == null || value === false) {
      node.removeAttribute(name);
    } else {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
}
